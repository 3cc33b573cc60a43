"""Concept distillation: half-way back and forth by the base, stored nearly losslessly, whatever stops it."""

import json
import shutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from tests.training.small_footage import film
from torch import Tensor

from unfade.backbones.cogvideox import CogVideoX, build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition
from unfade.core import InputError, UsageError, generator
from unfade.diffusion.guidance import Contrast
from unfade.diffusion.v_schedule import ZERO_SNR, VSchedule
from unfade.media.notes import read_notes
from unfade.training.clip_captions import read_captions
from unfade.training.clip_manifest import read_manifest, shard_path
from unfade.training.concept_store import CAPTIONS, MANIFEST, ConceptStore, merge_concepts
from unfade.training.concepts import (
    ConceptRow,
    ConceptRun,
    Make,
    chosen_clips,
    make_concepts,
    reimagined,
    reimagined_clip,
)
from unfade.training.curation import CurationRules, curate
from unfade.training.footage_clips import FootageClips

RUN = ConceptRun(steps=4, guidance=2.0, frames=9, size=(48, 48), seed=3)
HOST = torch.device("cpu")
MADE_OF = {"weights": "abc", "captioner": "rules 1", "run": RUN.told()}


def signal_of_the_paper() -> Tensor:
    """The signal's share of the variance by the published formulas: even roots of betas, zero terminal SNR."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    root = (1 - betas).cumprod(0).sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


SIGNAL = signal_of_the_paper()


@pytest.fixture(scope="module")
def video() -> CogVideoX:
    torch.manual_seed(4)
    return build_cogvideox(SMALL_T2V)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> FootageClips:
    """Five clips of three videos, each with a caption."""
    folder = tmp_path_factory.mktemp("footage")
    for name, shots in (("a", (20, 14)), ("b", (20, 14)), ("c", (14,))):
        film(folder / f"{name}.mp4", shots, Fraction(30000, 1001))
    curate([folder], folder / "m.jsonl", CurationRules(least_side=48, least_seconds=0.4, most_seconds=4))
    bare = FootageClips.of(folder / "m.jsonl", RUN.frames)
    captions = {bare.caption_key(index): f"scene {index}, ünlike\nthe others" for index in range(len(bare))}
    return FootageClips.of(folder / "m.jsonl", RUN.frames, captions)


@pytest.fixture(scope="module")
def make(video: CogVideoX) -> Make:
    def made(frames: Tensor, caption: str, name: str) -> Tensor:
        return reimagined_clip(video, frames, told(caption), RUN, name, HOST)

    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every run of this file goes, since captions are kept by paths."""
    return tmp_path_factory.mktemp("concepts") / "made"


@pytest.fixture(scope="module")
def unbroken(clips: FootageClips, make: Make, place: Path) -> Path:
    """A copy of the folder after a run that nothing stopped."""
    assert make_concepts(clips, chosen_clips(clips, RUN), make, ConceptStore(place, MADE_OF), RUN) == 0
    return shutil.copytree(place, place.with_name("unbroken"))


@pytest.fixture
def fresh(unbroken: Path, place: Path) -> Path:
    """The same folder again, with nothing in it."""
    shutil.rmtree(place, ignore_errors=True)
    return place


@pytest.fixture
def finished(unbroken: Path, fresh: Path) -> Path:
    """The same folder again, as the run left it."""
    return shutil.copytree(unbroken, fresh)


def told(caption: str) -> Contrast:
    texts = (torch.randn(1, 12, 24, generator=generator(0, text)) for text in (caption, ""))
    return Contrast(*(CogVideoXCondition(torch.zeros(0), text) for text in texts))


def content(folder: Path) -> dict[str, object]:
    """All files, but for when they were written and the order of the lists."""
    found: dict[str, object] = {}
    for path in folder.rglob("*.*"):
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[path.name] = sorted(str({**row, "mtime_ns": 0}) for row in rows)
        elif not path.is_dir():
            found[path.name] = path.read_bytes()
    return found


class Counted:
    """A maker that counts its clips, and may be interrupted at one."""

    def __init__(self, make: Make, stop: int | None = None) -> None:
        self.make, self.stop, self.names = make, stop, list[str]()

    def __call__(self, frames: Tensor, caption: str, name: str) -> Tensor:
        if len(self.names) == self.stop:
            raise KeyboardInterrupt
        self.names.append(name)
        return self.make(frames, caption, name)


def go(clips: FootageClips, make: Make, folder: Path, shard: tuple[int, int] = (0, 1)) -> Counted:
    counted = make if isinstance(make, Counted) else Counted(make)
    make_concepts(clips, chosen_clips(clips, RUN, shard), counted, ConceptStore(folder, MADE_OF, shard), RUN)
    return counted


@pytest.mark.parametrize(
    ("strength", "steps", "first", "time"),
    [(0.5, 50, 25, 499), (1, 50, 0, 999), (0.3, 50, 35, 299), (0.298, 50, 36, 279), (0.5, 4, 2, 499),
     (0.02, 50, 49, 19), (0.5, 3, 2, 332), (1, 1, 0, 999)],
)  # fmt: skip
def test_the_strength_decides_where_it_begins(strength: float, steps: int, first: int, time: int) -> None:
    trailing = [round(1000 - index * 1000 / steps) - 1 for index in range(steps)]
    times = VSchedule(steps).times()
    assert list(times) == trailing
    run = ConceptRun(strength=strength, steps=steps)
    assert run.first_step(times) == first and trailing[first] == time


def test_runs_that_can_not_be(clips: FootageClips) -> None:
    with pytest.raises(UsageError, match="none of 1 steps lies in the last"):
        ConceptRun(steps=1).first_step(VSchedule(1).times())
    for changes, said in (
        ({"strength": 0.0}, "above 0 and up to 1"),
        ({"strength": 1.01}, "above 0 and up to 1"),
        ({"guidance": 0.5}, "at least 1"),
        ({"steps": 0}, "steps must be 1 to 1000"),
        ({"count": 0}, "at least 1 clip"),
    ):
        with pytest.raises(UsageError, match=said):
            ConceptRun(**changes)
    with pytest.raises(UsageError, match="there are 5 clips that can be taken, not 6"):
        chosen_clips(clips, ConceptRun(frames=9, size=(48, 48), count=6))
    with pytest.raises(InputError, match="no clip has 80 x 64 pixels"):
        chosen_clips(clips, ConceptRun(frames=9, size=(64, 80)))


def test_more_clips_only_add_to_fewer_and_shards_divide_them(clips: FootageClips) -> None:
    def chosen(count: int | None, shard: tuple[int, int] = (0, 1), seed: int = 0) -> tuple[int, ...]:
        return chosen_clips(clips, ConceptRun(frames=9, size=(48, 48), count=count, seed=seed), shard)

    whole = chosen(None)
    assert sorted(whole) == [0, 1, 2, 3, 4]
    assert all(chosen(count) == whole[:count] for count in range(1, 6))
    assert len({chosen(2, seed=seed) for seed in range(8)}) > 3
    for count in (2, 3, 7):
        parts = [chosen(None, (index, count)) for index in range(count)]
        assert sorted(index for part in parts for index in part) == [0, 1, 2, 3, 4]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("sampler", ["dpm", "ddim"])
def test_who_knows_the_clip_brings_it_back(sampler: str, strength: float) -> None:
    clean = torch.randn(1, 4, 3, 5, 6, generator=generator(1))
    padded = torch.cat([clean[:, :, :1], clean], dim=2)
    seen: list[tuple[Tensor, float]] = []

    def knowing(x: Tensor, t: float, condition: object) -> Tensor:
        seen.append((x, t))
        a = SIGNAL[int(t)]
        return ((a.sqrt() * x - padded) / (1 - a).sqrt()).float()

    run = ConceptRun(strength=strength, steps=10, sampler=sampler, guidance=3.0)  # type: ignore[arg-type]
    made = reimagined(knowing, clean, told("any"), run, ZERO_SNR, 1, generator(7))
    assert made.shape == clean.shape and (made - clean).abs().max() < 2e-5
    times = [time for _, time in seen]
    assert times[::2] == times[1::2] == [t for t in VSchedule(10).times() if t <= 1000 * strength]
    noise = torch.randn(padded.shape, generator=generator(7))
    a = SIGNAL[int(times[0])]
    assert torch.allclose(seen[0][0], (a.sqrt() * padded + (1 - a).sqrt() * noise).float(), atol=1e-5)
    # Half-way some of the clip is left, at the very beginning nothing.
    assert (strength == 1) == (seen[0][0].sub(noise).abs().max() < 1e-5)


def test_it_is_guided_ddim_from_the_middle(video: CogVideoX) -> None:
    clean = torch.randn(1, 4, 3, 4, 4, generator=generator(2))
    run = ConceptRun(steps=4, sampler="ddim", guidance=3.0)
    both = told("a street")
    found = reimagined(video.denoiser, clean, both, run, ZERO_SNR, 1, generator(5))
    padded = torch.cat([clean[:, :, :1], clean], dim=2)
    x = SIGNAL[499].sqrt() * padded + (1 - SIGNAL[499]).sqrt() * torch.randn(
        padded.shape, generator=generator(5)
    )
    for now, after in ((499, 249), (249, None)):
        positive, negative = (video.denoiser(x.float(), now, side) for side in (both.positive, both.negative))
        v, a = negative + 3 * (positive - negative), SIGNAL[now]
        known, noise = a.sqrt() * x - (1 - a).sqrt() * v, a.sqrt() * v + (1 - a).sqrt() * x
        b = torch.tensor(1.0) if after is None else SIGNAL[after]
        x = b.sqrt() * known + (1 - b).sqrt() * noise
    assert torch.allclose(found, x[:, :, 1:].float(), atol=1e-4)
    assert (found - clean).abs().mean() > 0.1


def test_a_clip_anew_depends_on_its_caption_and_name_and_leaves_the_base_alone(
    video: CogVideoX, clips: FootageClips
) -> None:
    parts = (video.denoiser.model, video.vae.model)
    before = [value.clone() for part in parts for value in part.state_dict().values()]
    frames = clips.draw(0, 48, 9, generator(0))
    calls = video.denoiser.calls
    made = reimagined_clip(video, frames, told("one"), RUN, "x", HOST)
    assert video.denoiser.calls - calls == 2 * 2
    assert made.shape == frames.shape and made.min() >= 0 and made.max() <= 1
    again = reimagined_clip(video, frames, told("one"), RUN, "x", HOST)
    assert torch.equal(again, made)
    for caption, name in (("two", "x"), ("one", "y")):
        assert not torch.equal(reimagined_clip(video, frames, told(caption), RUN, name, HOST), made)
    after = [value for part in parts for value in part.state_dict().values()]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert not any(one.requires_grad for part in parts for one in part.parameters())


def test_what_is_stored_is_curated_footage_with_captions(
    unbroken: Path, place: Path, finished: Path, clips: FootageClips, make: Make
) -> None:
    captions = read_captions(place / CAPTIONS, "rules 1")
    stored = FootageClips.of(place / MANIFEST, 9, captions)
    assert len(stored) == 5
    by_path = {video.path: index for index, (video, _) in enumerate(stored.parts)}
    source = {clips.caption_key(index): index for index in range(5)}
    for path, index in by_path.items():
        # What was made of it, once more.
        own = source[path.stem]
        frames = clips.draw(own, RUN.size, 9, generator(RUN.seed, "clip", clips.names[own]))
        wanted = make(frames, clips.prompt(own), clips.names[own])
        read = stored.draw(index, 48, 9, generator(0))
        assert -10 * (read - wanted).square().mean().log10() > 48
        assert stored.prompt(index) == clips.prompt(own) == read_notes(path)["caption"]
        video, clip = stored.parts[index]
        assert video.probed is not None and video.probed.fps == "30000/1001" and clip.count == 9


def test_clips_come_back_nearly_as_they_were(tmp_path: Path) -> None:
    rows, columns, times = torch.meshgrid(torch.arange(64), torch.arange(80), torch.arange(33), indexing="ij")
    waves = [
        torch.sin((rows + times) / 9),
        torch.cos((columns - 2 * times) / 5),
        torch.sin(columns * rows / 400),
    ]
    frames = (torch.stack(waves) * 0.45 + 0.5).permute(3, 0, 1, 2)
    frames = (frames + 0.01 * torch.randn(frames.shape, generator=generator(0))).clamp(0, 1)
    bytes_of: list[bytes] = []
    for name in ("one", "two"):
        store = ConceptStore(tmp_path / name, MADE_OF)
        store.keep("k" * 24, frames, "24000/1001", "waves")
        bytes_of.append(store.path("k" * 24).read_bytes())
    assert bytes_of[0] == bytes_of[1]
    stored = FootageClips.of(tmp_path / "one" / MANIFEST, 33)
    read = stored.draw(0, (64, 80), 33, generator(0))
    each = -10 * (read - frames).square().mean((1, 2, 3)).log10()
    assert each.min() > 46
    # The second mark is used: the last frames are those of a reading from the beginning.
    late = {
        start: stored.draw(0, (64, 80), 5, generator(seed))
        for seed in range(12)
        for start in [int(torch.randint(29, (1,), generator=generator(seed)))]
    }
    assert max(late) >= 20 and all(torch.equal(part, read[start : start + 5]) for start, part in late.items())


@pytest.mark.parametrize("stop", [1, 4])
def test_an_interrupted_run_ends_the_same(
    unbroken: Path, fresh: Path, clips: FootageClips, make: Make, stop: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(clips, Counted(make, stop), fresh)
    assert len(go(clips, make, fresh).names) == 5 - stop
    assert content(fresh) == content(unbroken)
    assert go(clips, make, fresh).names == []


def cut_manifest(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes()[:-40])


def cut_captions(folder: Path) -> None:
    # Killed before the manifest knew of it either.
    cut_manifest(folder)
    path = folder / CAPTIONS
    path.write_bytes(path.read_bytes()[:-10])


def lists_lost(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / CAPTIONS).unlink()


def _last(folder: Path) -> Path:
    return Path(json.loads((folder / MANIFEST).read_text().splitlines()[-1])["path"])


def video_lost(folder: Path) -> None:
    _last(folder).unlink()


def video_cut(folder: Path) -> None:
    path = _last(folder)
    path.write_bytes(path.read_bytes()[:-200])


def half_written(folder: Path) -> None:
    (folder / "clips" / ".unfade-123456789abc.mp4").write_bytes(b"half")


@pytest.mark.parametrize(
    ("harm", "again"),
    [
        (cut_manifest, 0),
        (cut_captions, 0),
        (lists_lost, 0),
        (half_written, 0),
        (video_lost, 1),
        (video_cut, 1),
    ],
)
def test_killed_at_any_point_loses_one_clip_at_most(
    unbroken: Path, finished: Path, clips: FootageClips, make: Make, harm: Callable[[Path], None], again: int
) -> None:
    harm(finished)
    assert len(go(clips, make, finished).names) == again
    (finished / "clips" / ".unfade-123456789abc.mp4").unlink(missing_ok=True)
    assert content(finished) == content(unbroken)


def test_shards_together_are_the_whole(unbroken: Path, fresh: Path, clips: FootageClips, make: Make) -> None:
    for index in (1, 0):
        go(clips, make, fresh, (index, 3))
    with pytest.raises(InputError, match=r"manifest\.0002-of-0003\.jsonl is missing; run --shard 2/3 first"):
        merge_concepts(fresh, 3)
    go(clips, make, fresh, (2, 3))
    totals = merge_concepts(fresh, 3)
    assert totals.clips == 5
    whole, together = content(unbroken), content(fresh)
    assert {name: together[name] for name in whole if name != MANIFEST} == {
        name: whole[name] for name in whole if name != MANIFEST
    }
    assert [row.clips for row in read_manifest(fresh / MANIFEST)[1]] == [
        row.clips for row in read_manifest(unbroken / MANIFEST)[1]
    ]
    assert read_captions(fresh / CAPTIONS) == read_captions(unbroken / CAPTIONS)
    # What shards made is there for a run that isn't divided, and the other way round.
    for path in (shard_path(fresh / MANIFEST, (index, 3)) for index in range(3)):
        path.unlink()
    assert go(clips, make, fresh, (1, 3)).names == go(clips, make, fresh).names == []
    with pytest.raises(UsageError, match="no 0 shards"):
        merge_concepts(fresh, 0)


def test_other_settings_are_refused(finished: Path) -> None:
    def changed(**changes: object) -> Mapping[str, object]:
        return {**MADE_OF, "run": {**RUN.told(), **changes}}

    for other, said in (
        (changed(strength=0.6), "made with strength 0.5, not 0.6; give that again, or choose another folder"),
        (changed(size=[64, 64]), r"made with size \[48, 48\], not \[64, 64\]"),
        ({**MADE_OF, "weights": "def"}, "made with weights abc, not def"),
        ({**MADE_OF, "captioner": "x"}, "made with captioner rules 1, not x"),
    ):
        before = content(finished)
        with pytest.raises(UsageError, match=said):
            ConceptStore(finished, other)
        assert content(finished) == before
    # How many are made may change.
    assert ConceptRun(count=3).told() == ConceptRun().told()
    (finished / "concepts.json").write_text("{}")
    with pytest.raises(InputError, match="does not say how clips were made"):
        ConceptStore(finished, MADE_OF)


def test_a_clip_that_is_gone_is_told_and_passed_over(tmp_path: Path, make: Make) -> None:
    for name in ("a", "b"):
        film(tmp_path / f"{name}.mp4", (14,))
    curate([tmp_path], tmp_path / "m.jsonl", CurationRules(least_side=48, least_seconds=0.4, most_seconds=4))
    bare = FootageClips.of(tmp_path / "m.jsonl", 9)
    clips = FootageClips.of(tmp_path / "m.jsonl", 9, {bare.caption_key(index): "x" for index in range(2)})
    (tmp_path / "a.mp4").unlink()
    heard: list[ConceptRow] = []
    store = ConceptStore(tmp_path / "made", MADE_OF)
    assert make_concepts(clips, (0, 1), make, store, RUN, heard.append) == 1
    assert [(row.number, row.of, row.error is None) for row in heard] == [(1, 2, False), (2, 2, True)]
    assert "can't be found any more" in str(heard[0].error)
    assert not store.has(clips.caption_key(0)) and store.has(clips.caption_key(1))
