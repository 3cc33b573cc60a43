"""Pairs found on disk and sequences made of them, against the formulas and files they come from."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.core import Clip, InputError, UsageError, generator
from unfade.core.clip import Metadata
from unfade.degrade import SINGLE
from unfade.degrade.resample import resize
from unfade.media.images import read_image, write_image
from unfade.training.fewshot import PRESETS, choose_pairs, names_in, read_manifest, write_manifest
from unfade.training.pairs import PairFiles, find_pairs
from unfade.training.photos import load_photos
from unfade.training.sequences import PairSequences, PhotoSequences
from unfade.training.tracker import open_tracker


def save(path: Path, height: int = 40, width: int = 60, seed: int = 0) -> Tensor:
    pixels = torch.rand(1, 3, height, width, generator=generator(seed, path.name)).mul(255).round().div(255)
    write_image(Clip(pixels), path)
    return pixels


@pytest.fixture
def foundir(tmp_path: Path) -> Path:
    """Two groups, the second in the other arrangement's order of extensions; sorted order is not that of stems."""
    for group in ("01Blur", "14Lowlight"):
        for index, (lq, hq) in enumerate([("2", "10"), ("10", "2")]):
            del hq
            save(tmp_path / group / "LQ" / f"{lq}.{'ppm' if index else 'png'}", seed=1)
            save(tmp_path / group / "GT" / f"{lq}.png", seed=2)
    return tmp_path


def test_foundir_is_matched_by_stem(foundir: Path) -> None:
    pairs = find_pairs([foundir])
    assert [pair.name for pair in pairs] == ["01Blur/10", "01Blur/2", "14Lowlight/10", "14Lowlight/2"]
    assert all(pair.lq.stem == pair.hq.stem and pair.category in pair.lq.parts for pair in pairs)
    assert {pair.lq.suffix for pair in pairs} == {".png", ".ppm"}
    turned = foundir / "turned"
    for side in ("LQ", "GT"):
        for group in ("01Blur", "14Lowlight"):
            (turned / side).mkdir(parents=True, exist_ok=True)
            (foundir / group / side).rename(turned / side / group)
    assert [pair.name for pair in find_pairs([turned], "foundir")] == [pair.name for pair in pairs]


def test_a_png_may_hold_jpeg_data(tmp_path: Path) -> None:
    """As some of FoundIR's do."""
    lq, hq = tmp_path / "01Blur" / "LQ" / "0001.png", tmp_path / "01Blur" / "GT" / "0001.png"
    save(lq)
    save(hq.with_suffix(".jpg"), seed=2)
    hq.with_suffix(".jpg").rename(hq)
    assert hq.read_bytes().startswith(b"\xff\xd8")
    (pair,) = find_pairs([tmp_path])
    assert (pair.hq, pair.height, pair.width) == (hq, 40, 60)
    clip = PairSequences([pair]).draw(0, 40, 5, generator(0))
    # Its crop spans the whole height.
    places = read_image(hq).frames[0].unfold(-1, 40, 1).permute(2, 0, 1, 3)
    assert any(torch.equal(place, clip[-1]) for place in places)


def test_realce_enlarges_and_orientation_counts(tmp_path: Path) -> None:
    hq = save(tmp_path / "train" / "52mm" / "a.png", 64, 96)
    save(tmp_path / "train" / "26mm" / "a.png", 32, 48)
    save(tmp_path / "train" / "13mm" / "a.png", 16, 24)
    (pair, other) = find_pairs([tmp_path])
    assert (pair.name, other.name, pair.category) == ("RealCE/13mm-a", "RealCE/26mm-a", "RealCE")
    assert pair.resized and (pair.height, pair.width) == (64, 96)
    clip = PairSequences([pair]).draw(0, 64, 5, generator(0))
    # Its crop spans the whole height, so the truth's columns tell where it lies.
    left = next(x for x in range(33) if torch.equal(clip[-1], hq[0, :, :, x : x + 64]))
    lq = resize(read_image(pair.lq).frames, 64, 96).clamp(0, 1)
    assert torch.equal(clip[0], lq[0, :, :, left : left + 64])


def test_a_rotated_photo_is_upright(tmp_path: Path) -> None:
    import struct

    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + b"\0\0\0\0"
    save(tmp_path / "LQ" / "a.png", 60, 40)
    stored = torch.rand(1, 3, 40, 60)
    path = tmp_path / "HQ" / "a.jpg"
    write_image(Clip(stored, metadata=Metadata(format="jpeg", blobs={})), path)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    (pair,) = find_pairs([tmp_path])
    assert (pair.height, pair.width) == (60, 40)
    assert PairSequences([pair]).draw(0, 40, 5, generator(0)).shape == (5, 3, 40, 40)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: save(root / "LQ" / "b.png"), "b.png has no partner of the same name in .*HQ"),
        (lambda root: save(root / "HQ" / "c.png"), "c.png has no partner of the same name in .*LQ"),
        (lambda root: save(root / "LQ" / "a.png", 20, 30), "not aligned: their sizes are 30x20 and 60x40"),
        (lambda root: save(root / "LQ" / "a.ppm"), "share a name"),
        (lambda root: (root / "HQ" / "a.png").write_bytes(b"no"), "not an image"),
    ],
)
def test_bad_pairs_are_named(tmp_path: Path, spoil, sentence: str) -> None:
    for side in ("LQ", "HQ"):
        save(tmp_path / side / "a.png")
    assert len(find_pairs([tmp_path])) == 1
    spoil(tmp_path)
    with pytest.raises(InputError, match=sentence):
        find_pairs([tmp_path])


def test_what_is_no_set_of_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pairs"):
        find_pairs([tmp_path])
    with pytest.raises(InputError, match="not a folder"):
        find_pairs([tmp_path / "none"])
    with pytest.raises(UsageError, match="unknown layout 'zip'"):
        find_pairs([tmp_path], "zip")


def test_hidden_folders_are_no_groups(tmp_path: Path) -> None:
    for side in ("LQ", "HQ"):
        save(tmp_path / side / "a.png")
        save(tmp_path / side / ".ipynb_checkpoints" / "a-checkpoint.png")
    save(tmp_path / ".trash" / "LQ" / "b.png")
    assert [pair.lq.name for pair in find_pairs([tmp_path])] == ["a.png"]


@pytest.mark.parametrize("lacks", ["LQ", "GT"])
def test_a_group_without_its_other_half_is_named(foundir: Path, lacks: str) -> None:
    gone = foundir / "14Lowlight" / lacks
    gone.rename(foundir / f".{lacks}")
    with pytest.raises(InputError, match=rf"14Lowlight has no folder of .*\({lacks}\)"):
        find_pairs([foundir])


@pytest.mark.parametrize("lacks", ["LQ", "GT"])
def test_a_turned_group_without_its_other_half_is_named(foundir: Path, lacks: str) -> None:
    turned = foundir / "turned"
    for side in ("LQ", "GT"):
        (turned / side).mkdir(parents=True)
        for group in ("01Blur", "14Lowlight"):
            (foundir / group / side).rename(turned / side / group)
    assert len(find_pairs([turned])) == 4
    (turned / lacks / "14Lowlight").rename(foundir / "away")
    with pytest.raises(InputError, match=r"14Lowlight (has no folder of degraded photos in .*LQ|is missing)"):
        find_pairs([turned])


@pytest.mark.parametrize("suffix", [".jp2", ".BMP", ".dng"])
def test_photos_that_cannot_be_read_are_not_left_out(tmp_path: Path, suffix: str) -> None:
    for side in ("LQ", "HQ"):
        save(tmp_path / side / "a.png")
        (tmp_path / side / "notes.txt").write_text("not a photo")
        (tmp_path / side / f"b{suffix}").write_bytes(b"what such a camera writes")
    with pytest.raises(
        InputError, match=rf"b{suffix} is of a format that training does not read; convert it"
    ):
        find_pairs([tmp_path])


def test_folders_without_photos_are_no_pairs(tmp_path: Path) -> None:
    for side in ("LQ", "HQ"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "notes.txt").write_text("not a photo")
    with pytest.raises(InputError, match="LQ holds no photos"):
        find_pairs([tmp_path])
    with pytest.raises(InputError, match="no pairs to choose from"):
        choose_pairs([], 5, 0)


def test_a_gif_is_a_photo(tmp_path: Path) -> None:
    for side in ("LQ", "HQ"):
        save(tmp_path / side / "a.gif")
    assert len(find_pairs([tmp_path])) == 1


def test_a_missing_photo_is_one_sentence(foundir: Path) -> None:
    sequences = PairSequences(find_pairs([foundir]))
    before = sequences.identity(0)
    path = sequences.pairs[0].hq
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError, match=r"10\.png can't be found any more; bring it back"):
        sequences.identity(0)
    path.write_bytes(kept)
    assert sequences.identity(0) != before, "its time of change is another"


def test_the_blend_is_the_papers(foundir: Path) -> None:
    sequences = PairSequences(find_pairs([foundir]))
    clip = sequences.draw(1, 24, 9, generator(3))
    assert clip.shape == (9, 3, 24, 24)
    for t in range(9):
        torch.testing.assert_close(clip[t], (1 - t / 8) * clip[0] + t / 8 * clip[-1])
    assert torch.equal(clip, sequences.draw(1, 24, 9, generator(3)))
    assert not torch.equal(clip, sequences.draw(1, 24, 9, generator(4)))


def test_a_photo_smaller_than_its_crop_is_enlarged_and_counted(foundir: Path) -> None:
    sequences = PairSequences(find_pairs([foundir]))
    assert not sequences.enlarged(0, 40) and sequences.enlarged(0, 41)
    assert sequences.draw(0, 64, 5, generator(0)).shape == (5, 3, 64, 64)


@pytest.mark.parametrize("trajectory", ["linear", "fade"])
@pytest.mark.parametrize("name", ["lowlight", "gaussian-noise", "haze"])
def test_photos_get_better_to_the_last_bit(examples: Path, trajectory, name: str) -> None:
    photos = load_photos([examples])
    sequences = PhotoSequences(photos, {"one": SINGLE[name], "two": ()}, trajectory)
    assert len(sequences) == 2 * len(photos) == len(set(sequences.names))
    clip = sequences.draw(0, 48, 5, generator(0))
    assert clip.shape == (5, 3, 48, 48) and clip.min() >= 0 and clip.max() <= 1
    errors = ((clip - clip[-1]) ** 2).mean((1, 2, 3))
    assert (errors.diff() < 0).all() and errors[-1] == 0
    # The same crop under no degradation is the truth itself, so nothing but the degradation was applied.
    clean = sequences.draw(1, 48, 5, generator(0))
    assert torch.equal(clean[-1], clip[-1])
    torch.testing.assert_close(clean[0], clip[-1], atol=0.5 / 255 + 1e-6, rtol=0)
    assert torch.equal(clip[0], clip[0].mul(255).round().div(255))
    assert sequences.identity(0) != PhotoSequences(photos, {"one": SINGLE["jpeg"]}, trajectory).identity(0)


def many(category: str, count: int) -> list[PairFiles]:
    return [
        PairFiles(Path(f"l/{i}.png"), Path(f"h/{i}.png"), category, f"{category}/{i}", 8, 8)
        for i in range(count)
    ]


def test_few_shots_are_drawn_written_and_read(tmp_path: Path) -> None:
    pairs = [pair for number in range(21) for pair in many(f"group{number}", 60)]
    choice = choose_pairs(pairs, PRESETS["1K"], seed=42, held_out=2)
    assert len(choice.training) == 1050 and set(choice.counts().values()) == {50}
    assert len(choice.held_out) == 42
    assert not set(choice.training) & set(choice.held_out)
    assert choose_pairs(pairs[::-1], 50, 42, 2).counts() == choice.counts()
    assert choose_pairs(pairs, 50, 43, 2).training != choice.training
    # A category's draw does not depend on the others, and more shots keep the same held-out pairs.
    alone = choose_pairs(pairs[:60], 50, 42, 2)
    assert set(alone.training) == {pair for pair in choice.training if pair.category == "group0"}
    assert choose_pairs(pairs, 10, 42, 2).held_out == choice.held_out

    path = tmp_path / "pairs.json"
    write_manifest(choice, path)
    assert read_manifest(path, pairs) == choice
    assert json.loads(path.read_text())["counts"]["group3"] == 50
    other = choose_pairs(pairs, 5, 42, 1, names_in(path))
    assert not names_in(path) & {pair.name for pair in (*other.training, *other.held_out)}
    with pytest.raises(InputError, match="none is left to learn from"):
        choose_pairs(many("group0", 52), 5, 42, 0, names_in(path) | {"group0/50", "group0/51"} | {
            f"group0/{i}" for i in range(60)
        })  # fmt: skip
    for settings, said in (
        ((5, 42, 2), "few-shot 50, not 5"),
        ((0, 42, 2), "few-shot 50, not all"),
        ((50, 7, 2), "seed 42, not 7"),
        ((50, 42, 1), "held-out 2, not 1"),
        ((50, 42, 2, {"group0/1"}), "another --without"),
    ):
        with pytest.raises(UsageError, match=said):
            read_manifest(path, pairs).check_asked(path, *settings)
    choice.check_asked(path, 50, 42, 2)
    older = {
        name: value
        for name, value in json.loads(path.read_text()).items()
        if name not in ("barred", "held_out_each")
    }
    (tmp_path / "older.json").write_text(json.dumps(older))
    read_manifest(tmp_path / "older.json", pairs).check_asked(path, 50, 42, 9, {"group0/1"})
    (tmp_path / "older.json").write_text(json.dumps({**older, "training": []}))
    with pytest.raises(InputError, match="names no pairs to learn from; delete it"):
        read_manifest(tmp_path / "older.json", pairs)
    with pytest.raises(InputError, match="is not among the pairs"):
        read_manifest(path, pairs[:100])
    path.write_text("{}")
    with pytest.raises(InputError, match="not a manifest"):
        names_in(path)


@pytest.mark.parametrize("kind", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_there_is_one_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_tracker("none", tmp_path, {}) is None
    monkeypatch.setattr("unfade.training.tracker.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"{kind} is not installed; pip install {kind}"):
        open_tracker(kind, tmp_path, {})
    with pytest.raises(UsageError, match="unknown tracker"):
        open_tracker("clearml", tmp_path, {})
