"""Rules of prompts, one by one; fallbacks; the rule-based captioner against photos it was not set on."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.core import generator
from unfade.degrade import PROGRESSIONS, draw_composition
from unfade.media.images import read_image
from unfade.prompts.captions import KeptCaptions
from unfade.prompts.measured import MeasuredCaptioner, chosen_task, measure
from unfade.prompts.progressive import TAIL, TASKS, UNIFORM, uniform_prompt
from unfade.prompts.rules import broken_rules, count_words
from unfade.prompts.scene import (
    ChosenPrompt,
    instruction,
    own_prompt,
    plain_prompt,
    refined_prompt,
    scene_prompt,
)

GOOD = (
    "A narrow street between brick houses at night gradually becomes brighter, with natural colors and less noise in "
    f"the sky and on the walls. {TAIL}"
)
SEEN = "A narrow street between the walls of brick houses, under the night sky."


def test_the_published_prompt_stands_as_published() -> None:
    assert uniform_prompt("resolution") == (
        "The image becomes sharper and higher in resolution. Nothing moves. Static image."
    )
    assert all(text.endswith("Nothing moves. Static image.") for text in UNIFORM.values())
    assert set(UNIFORM) == set(TASKS) == set(PROGRESSIONS)
    with pytest.raises(ValueError, match="unknown task 'rain'"):
        uniform_prompt("rain")  # pyright: ignore[reportArgumentType]


def test_a_good_prompt_breaks_no_rule() -> None:
    assert broken_rules(GOOD, "lowlight") == ()
    assert count_words("Soft-edged hills, it's 5 o'clock.") == 5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"A street gradually becomes brighter. {TAIL}", "9 words, fewer than 20"),
        (GOOD.replace("A narrow", "A " + "very " * 30 + "narrow"), "more than 45"),
        (GOOD.removesuffix(f" {TAIL}") + " and on the roofs.", "doesn't end in"),
        (GOOD.replace("brighter", "warmer"), "doesn't name the goal"),
        (GOOD.replace("gradually becomes", "is"), "no gradual change"),
        (GOOD.replace("at night", "where a man walks"), "motion (“walks”)"),
        (GOOD.replace("at night", "as the camera stays"), "motion (“camera”)"),
        (GOOD.replace("at night", "where a cat appears"), "something new (“appears”)"),
        (GOOD.replace("A narrow", "The photo shows a narrow"), "the medium (“photo shows”)"),
        (GOOD.replace("houses", "房子"), "isn't in English"),
        (GOOD.replace("at night", "with a river flowing"), "motion (“flowing”)"),
        (GOOD.replace("at night", "where a car passes by"), "motion (“passes by”)"),
        (GOOD.replace("at night", "as leaves flutter"), "motion (“flutter”)"),
        (GOOD.replace("at night", "and smoke rises"), "motion (“rises”)"),
        (GOOD.replace("at night", "as a man turns his head"), "motion (“turns his”)"),
        (GOOD.replace("at night", "in slow motion"), "motion (“motion”)"),
        (GOOD.replace("at night", "and a star comes out"), "something new (“comes out”)"),
        (GOOD.replace("at night", "which turns into a square"), "something new (“turns into”)"),
        (GOOD.replace("at night", "that becomes a square"), "something new (“becomes a”)"),
        (GOOD.replace("at night", "and another street"), "something new (“another”)"),
    ],
)
def test_each_rule_is_seen_when_broken(text: str, what: str) -> None:
    assert any(what in clause for clause in broken_rules(text, "lowlight")), broken_rules(text, "lowlight")


@pytest.mark.parametrize(
    "words",
    [
        "where nothing moves",
        "without any motion",
        "as details slowly emerge",
        "where a man stands",
        "with scattered leaves and sails",
        "as the motion blur fades",
    ],
)
def test_what_only_sounds_like_motion_breaks_no_rule(words: str) -> None:
    assert broken_rules(GOOD.replace("at night", words), "lowlight") == ()


def test_what_the_caption_does_not_have_is_new() -> None:
    caption = "a narrow street between brick houses at night, sky and walls"
    assert broken_rules(GOOD, "lowlight", caption) == ()
    (clause,) = broken_rules(GOOD.replace("sky", "dragon"), "lowlight", caption)
    assert clause == "it brings what the caption doesn't have (“dragon”)"
    # Nothing was seen, so nothing may be named.
    (clause,) = broken_rules(GOOD, "lowlight", "")
    assert "“narrow”, “street”, “brick”, “houses”, “night”" in clause


@pytest.mark.parametrize("task", TASKS)
def test_plain_captions_get_the_goal_and_bad_ones_fall_back(task) -> None:
    chosen = refined_prompt("a cat lying on a red sofa.", task, "blip", instructed=False)
    assert chosen.source == "scene" and chosen.text.startswith(
        "A cat lying on a red sofa: the scene gradually"
    )
    assert broken_rules(chosen.text, task) == ()
    for caption in ("a dog running on the beach", "cat " * 40):
        fallen = refined_prompt(caption, task, "blip", instructed=False)
        assert (fallen.source, fallen.text, fallen.caption) == ("uniform", uniform_prompt(task), caption)
        assert fallen.why.startswith("the text of blip breaks a rule: it ") and fallen.why.count("\n") == 0
    assert refined_prompt("", task, "blip", instructed=True).source == "uniform"
    assert "Bring in no new objects" in instruction(task)
    example = instruction(task).split("Example:\n")[1]
    assert refined_prompt(example, task, "us", instructed=True).source == "scene"


def test_an_instructed_captioner_may_ask_for_nothing_it_did_not_see() -> None:
    def prompted(*lines: str) -> ChosenPrompt:
        return refined_prompt("\n".join(lines), "lowlight", "qwen", instructed=True)

    for lines in ((SEEN, GOOD), (SEEN, "", GOOD.removesuffix(TAIL)), (f"1. {SEEN}", f'2) "{GOOD}"')):
        assert (prompted(*lines).source, prompted(*lines).text) == ("scene", GOOD)
    for lines, what in (
        ((SEEN, GOOD.replace("at night", "with a fountain")), "the caption doesn't have (“fountain”)"),
        ((SEEN.replace("sky", "roofs"), GOOD), "the caption doesn't have (“sky”)"),
        # What is seen was not said first.
        ((GOOD,), "the caption doesn't have (“narrow”, “street”"),
        (
            (f"{SEEN} Cars pass by.", GOOD.replace("at night", "as cars drive by")),
            "tells of motion (“drive”)",
        ),
    ):
        fallen = prompted(*lines)
        assert (fallen.source, fallen.text) == ("uniform", uniform_prompt("lowlight"))
        assert what in fallen.why and fallen.why.endswith("so the uniform prompt is used")
    # Seen or not, it may not move.
    assert (
        "tells of motion (“walks”)"
        in prompted("A man walks.", GOOD.replace("narrow street", "man who walks")).why
    )


def test_the_users_words_win_and_stay_as_they_are() -> None:
    own = own_prompt("  make my   dog dance ")
    assert own is not None and (own.text, own.source) == ("make my dog dance", "user")
    assert own_prompt("  ") is None and own_prompt(None) is None
    assert plain_prompt("blur").text == uniform_prompt("blur")


def _degraded(photo: Tensor, name: str, task: str, strength) -> Tensor:
    drawn = draw_composition(PROGRESSIONS[task], generator(7, name, task), (1, *photo.shape[2:]), strength)
    return drawn(photo)[0].mul(255).round().div(255)


def test_degradations_are_told_apart_without_a_model(shared: Path) -> None:
    """On photos of a set that the thresholds were not chosen on."""
    photos = sorted((shared / "bench" / "cbsd68").rglob("*.png"))[1::8]
    assert len(photos) >= 8
    right: Counter[str] = Counter()
    for path in photos:
        photo = read_image(path).frames
        right["clean"] += measure(photo[0]).task is None
        for task in TASKS:
            picture = _degraded(photo, path.name, task, "strong")
            right[task] += measure(picture).task == task
            chosen = scene_prompt(picture, task, MeasuredCaptioner())
            assert chosen.source == "scene", chosen.why
    assert right["lowlight"] >= 0.9 * len(photos)
    assert right["clean"] >= 0.8 * len(photos)
    # Softness is always seen; which kind it is, is right two times out of three.
    assert right["resolution"] + right["blur"] >= 1.2 * len(photos), right


def test_measures_are_those_of_the_pixels(examples: Path) -> None:
    photo = read_image(examples / "coffee.png").frames
    assert measure(photo[0]).task is None
    noisy = torch.full((3, 96, 96), 0.5) + 0.04 * torch.randn(1, 96, 96, generator=generator(1))
    assert measure(noisy).noise == pytest.approx(0.04 * 255, rel=0.15)
    flat = torch.tensor([0.6, 0.5, 0.3])[:, None, None].expand(3, 40, 30)
    found = measure(flat)
    assert found.noise == pytest.approx(0, abs=1e-4) and found.cast[0] == pytest.approx(
        0.3 / (1.4 / 3), rel=1e-4
    )
    assert found.brightness == pytest.approx(0.299 * 0.6 + 0.587 * 0.5 + 0.114 * 0.3, rel=1e-4)
    for side in (1, 7, 300):
        assert measure(torch.rand(3, side, side, generator=generator(2))).brightness > 0
    task, why = chosen_task(measure(photo[0]))
    assert task == "resolution" and "nothing is clearly wrong" in why
    # Blurred along its rows, then along its columns.
    kernel = torch.ones(1, 1, 1, 15) / 15
    rows = torch.nn.functional.conv2d(photo.transpose(0, 1), kernel, padding="same").transpose(0, 1)
    columns = torch.nn.functional.conv2d(photo.transpose(0, 1), kernel.mT, padding="same").transpose(0, 1)
    assert (measure(rows[0]).task, measure(rows[0]).direction) == ("blur", "horizontal")
    assert (measure(columns[0]).task, measure(columns[0]).direction) == ("blur", "vertical")


def test_captions_are_kept_by_picture_task_and_captioner(tmp_path: Path, examples: Path) -> None:
    picture = read_image(examples / "rocket.jpg").frames[0]
    kept = KeptCaptions(MeasuredCaptioner(), tmp_path / "captions")
    text = kept(picture, "lowlight")
    assert kept(picture, "lowlight") == text == MeasuredCaptioner()(picture, "lowlight")
    assert kept.made == 1
    kept(picture, "blur")
    kept(picture.flip(2), "lowlight")
    assert kept.made == 3 and len(list((tmp_path / "captions").iterdir())) == 3
    kept.path(picture, "lowlight").write_text("{")
    assert kept(picture, "lowlight") == text and kept.made == 4
