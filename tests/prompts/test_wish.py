"""What is made of what users write."""

import pytest

from unfade.prompts import Wish, goal_sentence, read_wish
from unfade.prompts.goals import EVERYTHING, KEPT, PHRASES
from unfade.prompts.vbridge import PROMPT

# Says what is to stay in words that are no goal's.
VAGUE = {
    "keep it soft",
    "leave the resolution",
    "keep the artefacts",
    "leave the blocks",
    "leave the mood",
    "leave the weather",
}


@pytest.mark.parametrize("prompt", [None, "", "   \n"])
def test_no_prompt_is_blind_and_understood(prompt: str | None) -> None:
    assert read_wish(prompt) == Wish(None, 1.0, True)


@pytest.mark.parametrize(
    "phrase",
    [phrase for several in (*PHRASES.values(), *KEPT.values()) for phrase in several if phrase not in VAGUE],
)
def test_every_goal_we_know_is_understood(phrase: str) -> None:
    wish = read_wish(f"A street at night: {phrase}!")
    assert wish.understood and wish.text == f"A street at night: {phrase}!" and wish.strength == 1


@pytest.mark.parametrize("prompt", [*EVERYTHING, PROMPT, "Please restore it!", "my dog: fix everything"])
def test_what_asks_for_everything_is_blind_and_understood(prompt: str) -> None:
    assert read_wish(prompt) == Wish(None, 1.0, True)
    assert read_wish(f"slightly {prompt}") == Wish(None, 0.5, True)


@pytest.mark.parametrize(
    "prompt", ["hello world", "去除噪声", "Удали шум", "make it photo", "\x00\ud83d", "x" * 10_000]
)
def test_without_a_known_goal_a_prompt_is_blind_and_says_so(prompt: str) -> None:
    assert read_wish(prompt) == Wish(None, 1.0, False)


@pytest.mark.parametrize(
    ("prompt", "wish"),
    [
        ("Brighten it to 40 %", Wish("Brighten it", brightness=0.4)),
        ("brighten it to 40% and denoise it", Wish("brighten it and denoise it", brightness=0.4)),
        (
            "light up the dark photo to a mean brightness of 37.5 percent",
            Wish("light up the dark photo", brightness=0.375),
        ),
        ("at 55 percent brightness", Wish(brightness=0.55)),
        ("slightly brighten it to 30 %", Wish("brighten it", 0.5, brightness=0.3)),
        ("brighten it to 40 % to 60 %", Wish("brighten it", brightness=0.4)),
        ("brighten it to 250 %", Wish("brighten it")),
        ("remove 40 % of the noise", Wish("remove 40 % of the noise")),
        ("hello at 20 % brightness", Wish(brightness=0.2)),
    ],
)
def test_a_brightness_that_is_named_is_taken_out(prompt: str, wish: Wish) -> None:
    assert read_wish(prompt) == wish


@pytest.mark.parametrize(
    ("prompt", "text", "strength"),
    [
        ("Slightly brighten it", "brighten it", 0.5),
        ("remove the noise a little", "remove the noise", 0.5),
        ("STRONGLY sharpen it", "sharpen it", 1.25),
        ("denoise it as much as possible", "denoise it", 1.25),
        ("slightly, strongly deblur", ", deblur", 0.5),
        ("a bit", None, 0.5),
    ],
)
def test_words_of_strength_are_taken_out(prompt: str, text: str | None, strength: float) -> None:
    assert read_wish(prompt) == Wish(text, strength, True)


def test_ten_thousand_characters_are_read() -> None:
    assert read_wish("brighten " * 1200).understood


def test_what_training_says_is_understood() -> None:
    import random

    for seed in range(200):
        dice = random.Random(seed)
        names = tuple(dice.sample(sorted(PHRASES), 2))
        assert read_wish(goal_sentence(names, dice, ("noise",))).understood


@pytest.mark.parametrize(
    "prompt",
    [
        "remove the noise at 50 % of its strength",
        "reduce the noise to 30 percent",
        "remove the haze, keep the grain at 100 %",
        "brighten it, and denoise it to 40 %",
    ],
)
def test_a_share_of_something_else_is_no_brightness(prompt: str) -> None:
    assert read_wish(prompt) == Wish(prompt)


def test_nothing_is_understood_of_a_bare_share() -> None:
    assert read_wish("hello at 20 %") == Wish(understood=False)
