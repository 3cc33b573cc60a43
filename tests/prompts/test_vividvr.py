"""Vivid-VR's sentences as published, what room they leave for a caption, and which pixels each caption is made of."""

import math
from pathlib import Path

import pytest

from unfade.prompts.vividvr import (
    NEGATIVE_PROMPT,
    QUERY,
    SUFFIX,
    TOKENS,
    CaptionPlace,
    caption_places,
    place_prompts,
    vividvr_prompt,
)

SPECIFICATION = Path(__file__).parents[3] / "shared" / "specs" / "vividvr.md"
CAPTION = (
    "A red boat lies in a harbour. Behind it, Mr. Smith mends a net, slowly and with care. Gulls fly over."
)


def _words(text: str) -> int:
    """A tokenizer of words and an end mark."""
    return len(text.split()) + 1


def _letters(text: str) -> int:
    return len(text)


def test_all_are_verbatim() -> None:
    if not SPECIFICATION.is_file():
        pytest.skip(f"no {SPECIFICATION}: the specification is not on this machine")
    text = SPECIFICATION.read_text()
    assert f'*"{SUFFIX}"*' in text
    assert f'*"{NEGATIVE_PROMPT}"*' in text
    assert f"`{QUERY}`" in text


def test_what_fits_is_joined_by_a_space() -> None:
    assert vividvr_prompt(CAPTION, _words) == f"{CAPTION} {SUFFIX}"
    assert vividvr_prompt(CAPTION, _words, published=True) == f"{CAPTION} {SUFFIX}"
    assert vividvr_prompt(" A  boat.\n", _words) == f"A boat. {SUFFIX}"
    assert vividvr_prompt(" A  boat.\n", _words, published=True) == f" A  boat.\n {SUFFIX}"
    assert vividvr_prompt("", _words) == SUFFIX
    assert vividvr_prompt("A boat.", _words, suffix="") == "A boat."


def test_whole_sentences_are_kept_and_a_title_ends_none() -> None:
    room = _words(SUFFIX)
    kept = {
        length: vividvr_prompt(CAPTION, _words, room + length).removesuffix(SUFFIX).strip()
        for length in range(22)
    }
    first, second = "A red boat lies in a harbour.", CAPTION.removesuffix(" Gulls fly over.")
    assert kept[21] == CAPTION and kept[20] == second == kept[len(second.split())]
    assert kept[len(second.split()) - 1] == first == kept[len(first.split())]
    assert kept[6] == "A red boat lies in a." and kept[1] == "A." and kept[0] == ""


@pytest.mark.parametrize("count", [_words, _letters])
def test_the_suffix_is_always_read_whole_and_no_word_is_broken(count) -> None:
    for limit in range(count(SUFFIX), count(f"{CAPTION} {SUFFIX}") + 2):
        prompt = vividvr_prompt(CAPTION, count, limit)
        assert prompt.endswith(SUFFIX) and count(prompt) <= limit
        kept = prompt.removesuffix(SUFFIX).strip()
        assert CAPTION.startswith(kept.rstrip(".")) and kept.rstrip(".").split() == [
            word if index + 1 < len(kept.split()) else word.rstrip(".,")
            for index, word in enumerate(CAPTION.split()[: len(kept.split())])
        ]
    # The released code lets the suffix be cut instead.
    assert count(vividvr_prompt(CAPTION, count, count(SUFFIX), published=True)) > count(SUFFIX)


def test_without_a_full_stop_words_are_kept() -> None:
    limit = _words(SUFFIX) + 3
    assert vividvr_prompt("a boat, two gulls and a net", _words, limit) == f"a boat, two. {SUFFIX}"
    assert vividvr_prompt("a boat, two gulls", _words, limit - 1) == f"a boat. {SUFFIX}"
    assert vividvr_prompt("红色的船。海鸥在飞。", _letters, len(SUFFIX) + 6) == f"红色的船。 {SUFFIX}"


def test_an_encoder_without_room_for_the_suffix_gets_what_was_published() -> None:
    assert vividvr_prompt(CAPTION, _words, 5) == vividvr_prompt(CAPTION, _words, published=True)


def test_a_real_tokenizer_reads_the_suffix_to_its_end(cogvideox_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(cogvideox_folder / "tokenizer")
    prompt = vividvr_prompt("sharp " * 500, lambda text: len(tokenizer(text)["input_ids"]))
    read = tokenizer(prompt, truncation=True, max_length=TOKENS)["input_ids"]
    assert len(read) == TOKENS and read[-1] == tokenizer.eos_token_id
    assert len(tokenizer(SUFFIX)["input_ids"]) + len(prompt.removesuffix(SUFFIX).split()) == TOKENS


def _published_clips(num_frames: int, length: int = 121) -> list[tuple[int, int]]:
    """Frames of the clips as the released code counts them: half of the frames less one on."""
    step = length - ((length - 1) // 2 + 1)
    count = max(1, math.ceil((num_frames - length) / step) + 1)
    return [(index * step, min(index * step + length, num_frames)) for index in range(count)]


@pytest.mark.parametrize("num_frames", [1, 9, 100, 121, 122, 181, 182, 1000])
def test_frames_of_a_place_are_those_its_latents_were_made_of(num_frames: int) -> None:
    clips = _published_clips(num_frames)
    # In latents, where 60 frames are 15, and a clip of 8k + 1 frames has 2k + 1.
    latents = [(first // 4, first // 4 + 2 * math.ceil((stop - first - 1) / 8) + 1) for first, stop in clips]
    places = caption_places([(0, 8)], [(0, 8)], latents, size=(64, 64), num_frames=num_frames)
    assert [(place.first, place.stop) for place in places] == clips


def test_one_place_for_each_tile_of_each_clip() -> None:
    rows, columns, clips = [(0, 128)], [(0, 128), (50, 178), (100, 228)], [(0, 31), (15, 46)]
    places = caption_places(rows, columns, clips, size=(1024, 1820), num_frames=175)
    assert len(places) == 6 == len({place.key for place in places})
    assert places[4] == CaptionPlace(1, 0, 1, 0, 1024, 400, 1424, 60, 175)
    assert places[5].right == 1820 and places[5].left == 800
    assert places[4].key == "t60-175.y0-1024.x400-1424"
    # Each pixel and frame is seen by one of them at least.
    assert {x for place in places for x in range(place.left, place.right)} == set(range(1820))
    assert {t for place in places for t in range(place.first, place.stop)} == set(range(175))
    # A place is called the same whatever else there is.
    alone = caption_places(rows, columns[1:2], clips[1:], size=(1024, 1820), num_frames=175)
    assert alone[0].key == places[4].key


def test_tiles_come_from_the_latents_where_pixels_would_make_more() -> None:
    """1028 pixels are two tiles of 1024, but 128 latents are one, and there is one prompt for each that is denoised."""
    assert math.ceil((1028 - 1024) / 512) + 1 == 2
    places = caption_places([(0, 128)], [(0, 128)], [(0, 3)], size=(1024, 1028), num_frames=9)
    assert [(place.left, place.right) for place in places] == [(0, 1024)]
    filled = caption_places([(0, 128)], [(0, 128)], [(0, 3)], size=(1024, 1020), num_frames=9)
    assert [(place.left, place.right) for place in filled] == [(0, 1020)]


@pytest.mark.parametrize(
    ("rows", "clips"), [([(8, 16)], [(0, 3)]), ([(3, 3)], [(0, 3)]), ([(0, 8)], [(3, 5)])]
)
def test_windows_that_show_nothing_are_a_fault_of_ours(rows, clips) -> None:
    with pytest.raises(ValueError, match="shows nothing"):
        caption_places(rows, [(0, 8)], clips, size=(64, 64), num_frames=9)


def test_every_place_is_told_its_own_caption_and_the_users_prompt_wins() -> None:
    places = caption_places([(0, 4)], [(0, 4), (2, 6)], [(0, 3)], size=(32, 48), num_frames=9)
    asked: list[str] = []

    def describe(place: CaptionPlace) -> str:
        asked.append(place.key)
        return f"From {place.left}."

    prompts = place_prompts(places, describe, _words)
    assert prompts == {place.key: f"From {place.left}. {SUFFIX}" for place in places}
    assert asked == [place.key for place in places]
    own = place_prompts(places, describe, _words, own="  my\nboat ")
    assert own == dict.fromkeys(asked, f"my boat {SUFFIX}") and len(asked) == 2
    assert set(place_prompts(places, describe, _words, own="my boat", suffix="").values()) == {"my boat"}
    assert place_prompts(places, describe, _words, own=" ") == prompts
