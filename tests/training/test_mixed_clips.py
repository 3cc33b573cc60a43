"""Real and made clips in a proportion that is exact whatever there is of either."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from tests.training.small_footage import film

from unfade.core import UsageError, generator
from unfade.training.clip_manifest import CuratedClip, CuratedVideo, Probed
from unfade.training.curation import CurationRules, curate
from unfade.training.footage_clips import Clips, FootageClips, FootagePairs
from unfade.training.mixed_clips import MixedClips


def listed(folder: str, count: int) -> FootageClips:
    """Clips that nobody draws, with a caption each."""
    probed = Probed(64, 48, "24/1", 1.0, 24, "h264", "yuv420p")
    clip = CuratedClip(0, 24, 0.0, 1.0, None, (0, 16))
    parts = tuple(
        (CuratedVideo(Path(f"/{folder}/{index}.mp4"), 1, 1, probed, (clip,)), clip) for index in range(count)
    )
    bare = FootageClips(parts)
    return FootageClips(parts, {bare.caption_key(index): f"{folder} {index}" for index in range(count)})


@pytest.mark.parametrize(
    ("real", "made", "ratio", "wanted"),
    [(50, 10, 0.2, 10), (50, 40, 0.2, 10), (50, 3, 0.2, 10), (7, 5, 1.0, 7), (3, 4, 5.0, 15), (2, 9, 0.2, 0),
     (3, 9, 0.2, 1), (6, 2, 0.0, 0)],
)  # fmt: skip
def test_the_ratio_is_exact(real: int, made: int, ratio: float, wanted: int) -> None:
    mixed = MixedClips(listed("real", real), listed("made", made), ratio, seed=1)
    assert len(mixed) == len(mixed.names) == real + wanted
    assert len(set(mixed.names)) == len(mixed)
    said = Counter(mixed.prompt(index) for index in range(len(mixed)))
    assert all(said[f"real {index}"] == 1 for index in range(real))
    of_made = [said[f"made {index}"] for index in range(made)]
    assert sum(of_made) == wanted and max(of_made) - min(of_made) <= 1
    assert [mixed.prompt(index)[:4] for index in range(len(mixed))] == ["real"] * real + ["made"] * wanted


def test_a_choice_depends_on_the_seed_and_the_names() -> None:
    real, made = listed("real", 20), listed("made", 40)

    def chosen(clips: FootageClips, seed: int) -> set[str]:
        return set(MixedClips(real, clips, 0.5, seed).names[20:])

    assert chosen(made, 1) == chosen(made, 1) == chosen(FootageClips(made.parts[::-1]), 1)
    assert len({frozenset(chosen(made, seed)) for seed in range(6)}) == 6
    seen = Counter(name for seed in range(80) for name in chosen(made, seed))
    assert len(seen) == 40 and max(seen.values()) < 45
    # More real clips only add to what was chosen.
    assert set(MixedClips(listed("real", 10), made, 0.5, 1).names[10:]) < chosen(made, 1)


def test_what_can_not_be_mixed() -> None:
    for ratio in (-0.1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="the ratio of made clips to real ones is 0 or more"):
            MixedClips(listed("real", 2), listed("made", 2), ratio)
    with pytest.raises(ValueError, match="no made clip"):
        MixedClips(listed("real", 5), FootageClips(()))
    assert len(MixedClips(listed("real", 5), FootageClips(()), 0.0)) == 5


def test_draws_are_those_of_the_clips_themselves(tmp_path: Path) -> None:
    parts: list[FootageClips] = []
    for name, shots in (("real", (14, 14)), ("made", (14,))):
        (tmp_path / name).mkdir()
        film(tmp_path / name / "v.mp4", shots)
        manifest = tmp_path / name / "m.jsonl"
        curate([tmp_path / name], manifest, CurationRules(least_side=48, least_seconds=0.4, most_seconds=4))
        parts.append(FootageClips.of(manifest, 9))
    real, made = parts
    mixed = MixedClips(real, made, 1.0)
    as_clips: Clips = mixed
    assert len(as_clips) == 4
    for index, (clips, own) in enumerate([(real, 0), (real, 1), (made, 0), (made, 0)]):
        drawn = mixed.draw(index, 48, 9, generator(5))
        assert torch.equal(drawn, clips.draw(own, 48, 9, generator(5)))
        assert mixed.identity(index) == clips.identity(own)
        assert mixed.enlarged(index, 49) and not mixed.enlarged(index, 48)
    assert mixed.names[3] == f"{mixed.names[2]}-again-1"
    pairs = FootagePairs(mixed, lambda dice: lambda clip: clip)
    assert pairs.names == mixed.names
