"""Training clips are consecutive frames of one shot, reduced and cropped; pairs depend on seed, name and epoch."""

import hashlib
import os
import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from tests.training.small_footage import film, number_of
from torch import Tensor
from torch.nn import functional

from unfade.core import InputError, UsageError, generator
from unfade.degrade import Strength, draw_composition
from unfade.degrade.noise import GaussianNoise
from unfade.media.video import read_video
from unfade.training.clip_manifest import Terms, write_manifest
from unfade.training.curation import CurationRules, curate
from unfade.training.footage_clips import FootageClips, FootagePairs, caption_key, drawn_frames
from unfade.training.progression import Prompted

_RULES = CurationRules(least_side=48, least_seconds=0.5, most_seconds=4)


def _clips(folder: Path, frames: int = 9) -> FootageClips:
    curate([folder], folder / "m.jsonl", _RULES)
    return FootageClips.of(folder / "m.jsonl", frames)


def _cropped(frames: list[Tensor], size: int) -> Tensor:
    """Short side to `size` and the middle of it, by plain torch."""
    whole = torch.stack(frames)
    scale = size / min(whole.shape[2:])
    sides = [round(side * scale) for side in whole.shape[2:]]
    small = functional.interpolate(whole, sides, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((side - size) // 2 for side in sides)
    return small[:, :, top : top + size, left : left + size]


@pytest.mark.parametrize(("suffix", "rotation"), [(".mp4", 0), (".mkv", 0), (".mp4", 90)])
def test_a_draw_is_what_reading_and_cropping_gives(tmp_path: Path, suffix: str, rotation: int) -> None:
    path = film(tmp_path / f"v{suffix}", (20, 50), rotation=rotation, options={"bf": "3"})
    whole = [frame.image for frame in read_video(path)]
    clips = _clips(tmp_path)
    assert len(clips) == 2 and isinstance(clips, FootageClips)
    starts: Counter[int] = Counter()
    for index, (first, count) in enumerate([(0, 20), (20, 50)]):
        for seed in range(25):
            drawn = clips.draw(index, 48, 9, generator(seed))
            assert drawn.shape == (9, 3, 48, 48) and drawn.dtype == torch.float32
            # Which one it is, by comparison with every place it might be.
            found = [
                start
                for start in range(first, first + count - 8)
                if torch.equal(drawn, _cropped(whole[start : start + 9], 48))
            ]
            assert len(found) == 1
            starts[found[0]] += 1
    assert min(starts) < 3 and max(starts) > 55 and not any(11 < start < 20 for start in starts)
    small = clips.draw(1, 32, 9, generator(3))
    start = next(
        s
        for s in range(20, 62)
        if torch.equal(clips.draw(1, 48, 9, generator(3)), _cropped(whole[s : s + 9], 48))
    )
    assert (small - _cropped(whole[start : start + 9], 32)).abs().max() < 1e-6


def test_frames_of_uneven_times_stay_neighbours(tmp_path: Path) -> None:
    times = [index + index // 3 for index in range(60)]
    film(tmp_path / "v.mp4", (60,), Fraction(48), times)
    clips = _clips(tmp_path)
    seen: set[int] = set()
    for seed in range(12):
        numbers = [number_of(frame) for frame in clips.draw(0, (48, 64), 17, generator(seed))]
        assert numbers == list(range(numbers[0], numbers[0] + 17))
        seen.add(numbers[0])
    assert len(seen) > 6 and max(seen) <= 43


def test_crops_lie_in_the_middle_or_anywhere(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", (12,))
    centred = _clips(tmp_path, 12)
    free = FootageClips(centred.parts, centred=False)
    middle = centred.draw(0, 48, 12, generator(0))
    whole = centred.draw(0, (48, 64), 12, generator(0))
    assert torch.equal(middle, whole[..., 8:56])
    lefts: set[int] = set()
    for seed in range(30):
        drawn = free.draw(0, 48, 12, generator(seed))
        (left,) = (one for one in range(17) if torch.equal(drawn, whole[..., one : one + 48]))
        lefts.add(left)
    assert len(lefts) > 8 and free.identity(0) != centred.identity(0)


def test_nothing_is_enlarged(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", (20,))
    clips = _clips(tmp_path)
    assert not clips.enlarged(0, 48) and clips.enlarged(0, 49) and clips.enlarged(0, (48, 65))
    with pytest.raises(InputError, match=r"v\.mp4 has 64 x 48 pixels, fewer than the 49 x 49 asked for"):
        clips.draw(0, 49, 9, generator(0))
    with pytest.raises(InputError, match="has 20 frames, fewer than the 25 asked for"):
        clips.draw(0, 48, 25, generator(0))
    with pytest.raises(InputError, match="holds no clip of 21 frames or more"):
        FootageClips.of(tmp_path / "m.jsonl", 21)


def test_files_that_changed_are_noticed(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", (20,))
    clips = _clips(tmp_path)
    found = path.stat()
    clips.draw(0, 48, 9, generator(0))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    for asked in (lambda: clips.draw(0, 48, 9, generator(0)), lambda: clips.identity(0)):
        with pytest.raises(
            InputError, match=r"v\.mp4 has changed since it was curated; curate the footage again"
        ):
            asked()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert clips.identity(0)
    # Another file of the same size and time, which only its frames give away.
    other = film(tmp_path / "w.mp4", (20,), Fraction(30), [index + 7 for index in range(20)]).read_bytes()
    path.write_bytes(other[: found.st_size].ljust(found.st_size, b"\0"))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(InputError, match=r"v\.mp4"):
        clips.draw(0, 48, 9, generator(0))
    path.unlink()
    with pytest.raises(InputError, match=r"v\.mp4 can't be found any more; bring it back"):
        clips.draw(0, 48, 9, generator(0))


def test_every_clip_has_a_name_and_a_place_for_its_caption(tmp_path: Path) -> None:
    for place in ("one/x", "two/x"):
        (tmp_path / place).mkdir(parents=True)
        film(tmp_path / place / "v.mp4", (20, 24))
    clips = _clips(tmp_path)
    as_sequences: Prompted = clips
    assert len(as_sequences) == 4 and len(set(clips.names)) == 4
    assert clips.names == tuple(
        f"{one}/x/v.mp4-0000{first}" for one in ("one", "two") for first in ("00", "20")
    )
    path = (tmp_path / "two" / "x" / "v.mp4").absolute()
    told = hashlib.sha256(f"{path}\n20\n24".encode()).hexdigest()
    assert clips.caption_key(3) == caption_key(path, 20, 24) == told[:24]
    with pytest.raises(InputError, match=r"frames 20 to 44 of .*v\.mp4 have no caption yet"):
        clips.prompt(3)
    told = {clips.caption_key(index): f"caption {index}" for index in range(4)}
    captioned = FootageClips.of(tmp_path / "m.jsonl", 9, told)
    assert [captioned.prompt(index) for index in range(4)] == [f"caption {index}" for index in range(4)]
    assert len({clips.identity(index) for index in range(4)}) == 4


def test_what_is_drawn_does_not_depend_on_where_footage_lies(tmp_path: Path) -> None:
    (tmp_path / "here" / "x").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        film(tmp_path / "here" / "x" / name, (20, 24))
    shutil.copytree(tmp_path / "here", tmp_path / "over" / "there")
    found: list[tuple[FootageClips, torch.Tensor]] = []
    for place in ("here", "over/there"):
        clips = _clips(tmp_path / place)
        pairs = FootagePairs(clips, _noise, "noise")
        drawn = [pairs.draw(i, 48, 9, generator(1, "held out", name)) for i, name in enumerate(pairs.names)]
        found.append((clips, torch.stack(drawn)))
    assert found[0][0].names == found[1][0].names and torch.equal(found[0][1], found[1][1])
    assert len({one.sum().item() for one in found[0][1]}) == 4
    # Clips that a distillation made lie in files named after keys, which hold the whole path; their names don't.
    named: list[tuple[str, ...]] = []
    for clips, _ in found:
        video, _ = clips.parts[1]
        anew = replace(video, path=tmp_path / f"{clips.caption_key(1)}.mp4", clips=video.clips[:1])
        write_manifest(tmp_path / "anew.jsonl", Terms({}), [anew])
        named.append(FootageClips.of(tmp_path / "anew.jsonl", 9, sources=clips).names)
        assert FootageClips.of(tmp_path / "anew.jsonl", 9).names != named[-1]
    assert named[0] == named[1] == ("x/a.mp4-000020 anew-000000",)


def test_steps_take_a_legal_number_of_frames() -> None:
    dice = generator(0, "frames")
    counts = Counter(drawn_frames(17, 37, dice) for _ in range(600))
    assert set(counts) == {17, 25, 33} and min(counts.values()) > 150
    assert {drawn_frames(1, 9, dice) for _ in range(40)} == {1, 9}
    assert drawn_frames(33, 33, dice) == 33
    for least, most in ((18, 24), (37, 17), (-5, 0)):
        with pytest.raises(UsageError, match="no number of frames 8k \\+ 1 between"):
            drawn_frames(least, most, dice)


def _noise(dice: torch.Generator):
    strength: Strength = "strong"
    drawn = draw_composition((GaussianNoise,), dice, (1, 48, 48), strength)
    return lambda clip: torch.cat([drawn(frame[None], 1.0) for frame in clip])


def test_pairs_depend_on_their_dice_only(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", (40,))
    film(tmp_path / "b.mp4", (40,))
    clips = _clips(tmp_path)
    pairs = FootagePairs(clips, _noise, "noise")
    alone = FootagePairs(FootageClips(clips.parts[1:]), _noise, "noise")
    assert len(pairs) == 2 and alone.names[0] == pairs.names[1]
    assert alone.identity(0) == pairs.identity(1) != FootagePairs(clips, _noise, "rain").identity(1)

    def drawn(of: FootagePairs, index: int, *names: object) -> tuple[torch.Tensor, torch.Tensor]:
        low, clean = of.draw(index, 48, 9, generator(7, *names)).chunk(2)
        return low, clean

    low, clean = drawn(pairs, 1, 3)
    assert low.shape == clean.shape == (9, 3, 48, 48) and 0.02 < (low - clean).abs().mean() < 0.3
    for again in (drawn(pairs, 1, 3), drawn(alone, 0, 3)):
        assert torch.equal(again[0], low) and torch.equal(again[1], clean)
    others = [drawn(pairs, 1, epoch) for epoch in range(4, 9)]
    assert all(not torch.equal(other[0] - other[1], low - clean) for other in others)
    assert sum(not torch.equal(other[1], clean) for other in others) >= 3
    # The clean clip does not depend on how many dice the degradation throws.
    plain = drawn(FootagePairs(clips, lambda dice: lambda clip: clip), 1, 3)
    assert torch.equal(plain[0], plain[1]) and torch.equal(plain[1], clean)
    with pytest.raises(ValueError, match="keeps the size"):
        FootagePairs(clips, lambda dice: lambda clip: clip[..., 1:]).draw(0, 48, 9, generator(0))
