"""Where there is text, the input is kept: soft masks from scores and from files, and what is wrong with either."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from torch.nn import functional

from unfade.core import Clip, InputError, generator
from unfade.media.images import write_image
from unfade.restore.text_protection import DetectedMasks, FileMasks, Softening, protect

AS_PUBLISHED = Softening(speck=1)


def noise(seed, *shape):
    return torch.rand(shape, generator=generator(2, seed))


def written(path, grey, alpha=None):
    """A grey picture `[H, W]` as a file."""
    frames = grey.expand(3, -1, -1)[None]
    write_image(Clip(frames, alpha=None if alpha is None else alpha[None, None]), path)
    return path


def filmed(path, masks):
    """Grey pictures `[T, H, W]` as a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "2", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *masks.shape[1:], "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 10)
        for index, mask in enumerate(masks):
            array = (mask * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy()
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def near(values, row, column, radius):
    return values[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]


def by_the_book(score, threshold=0.7, denoise=5, dilate=5, blur=1):
    """The published steps, place by place."""
    places = list(np.ndindex(score.shape))
    certain = np.clip(score / threshold, 0, 1)
    kept, grown, soft = certain.copy(), certain.copy(), certain.copy()
    for place in places:
        if denoise and near(certain, *place, denoise).max() < 1:
            kept[place] = certain[place] ** 2
    for place in places:
        grown[place] = near(kept, *place, dilate).max()
    for place in places:
        soft[place] = grown[place] if grown[place] >= 1 else near(grown, *place, blur).mean()
    return soft


@pytest.mark.parametrize(
    "options",
    [{}, {"threshold": 0.4, "denoise": 2, "dilate": 1, "blur": 3}, {"denoise": 0, "dilate": 0, "blur": 0}],
)
def test_scores_become_the_published_mask(options):
    # Blurred noise has certain places, doubtful ones beside them and doubtful ones alone.
    score = functional.avg_pool2d(noise("score", 1, 44, 60), 5, 1)
    score = ((score - 0.42) * 4).clamp(0, 1)
    mask = Softening(speck=1, **options).mask(score, *score.shape[1:])
    expected = by_the_book(score[0].double().numpy(), **options)
    assert (expected == 1).any() and (expected < 0.5).any()
    torch.testing.assert_close(mask[0].double(), torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_small_score_maps_are_enlarged_bilinearly():
    score = noise("small", 1, 6, 9)
    large = functional.interpolate(score[None], (24, 36), mode="bilinear")[0]
    torch.testing.assert_close(AS_PUBLISHED.mask(score, 24, 36), AS_PUBLISHED.mask(large, 24, 36))


def test_specks_are_dropped_and_strokes_are_not():
    score = torch.zeros(1, 40, 60)
    score[0, 8, 8] = 1
    score[0, 20:30, 40:42] = 1
    assert float(AS_PUBLISHED.mask(score, 40, 60)[0, 8, 8]) == 1
    mask = Softening().mask(score, 40, 60)
    assert float(mask[0, :15, :30].max()) == 0
    assert float(mask[0, 20:30, 40:42].min()) == 1
    assert float(mask[0, 15:35, 35:47].min()) == 1  # the stroke, five places wider all around
    assert float(mask[0, :, 50:].max()) == 0
    assert float(Softening(speck=3).mask(score, 40, 60).max()) == 0


def test_a_score_on_the_verge_does_not_make_the_mask_blink():
    peak = torch.exp(-((torch.arange(31) - 15) ** 2) / 40)
    shape = (peak[:, None] * peak)[None]
    for softening in (AS_PUBLISHED, Softening()):
        below, above = (softening.mask(height * shape, 31, 31) for height in (0.699, 0.701))
        # Only what is doubtful beside the peak steps from its square to itself, by a quarter at most.
        assert float((above - below).abs().max()) < 0.26
        assert float((above - below)[0, 10:21, 10:21].abs().max()) < 0.05


def test_masks_mix_the_pictures():
    restored, source, other = noise("pictures", 3, 3, 8, 12)
    mask = torch.zeros(1, 8, 12)
    mask[..., :4], mask[..., 4:8] = 1, 0.25
    for faithful in (None, other):
        kept = source if faithful is None else faithful
        result = protect(restored, source, lambda frame: mask, faithful)
        assert torch.equal(result[..., :4], kept[..., :4]) and torch.equal(result[..., 8:], restored[..., 8:])
        between = 0.75 * restored[..., 4:8] + 0.25 * kept[..., 4:8]
        torch.testing.assert_close(result[..., 4:8], between)
    with pytest.raises(ValueError, match="of one size"):
        protect(restored, source[..., 1:], lambda frame: mask)
    with pytest.raises(ValueError, match=r"mask of \(1, 8, 11\) does not fit"):
        protect(restored, source, lambda frame: mask[..., 1:])


def test_a_detector_keeps_the_text_it_finds():
    source = torch.full((3, 48, 80), 0.5)
    source[:, 20:28, 20:60:4] = source[:, 20:28, 21:60:4] = 0.95  # strokes on a plain ground
    restored = noise("restored", 3, 48, 80)

    def strokes(frame):
        """Half as large as the frame: how much light changes from place to place."""
        change = (frame.mean(0)[:, 1:] - frame.mean(0)[:, :-1]).abs()
        return functional.max_pool2d(functional.pad(change, (0, 1))[None], 2).mul(2.2).clamp(0, 1)

    result = protect(restored, source, DetectedMasks(strokes))
    assert torch.equal(result[:, 20:28, 20:58], source[:, 20:28, 20:58])
    assert torch.equal(result[:, :10], restored[:, :10]) and torch.equal(
        result[:, :, 75:], restored[:, :, 75:]
    )
    nothing = DetectedMasks(lambda frame: torch.zeros(1, 3, 5))
    assert torch.equal(protect(restored, source, nothing), restored)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (torch.zeros(3, 4), r"scores \[1, h, w\], not \(3, 4\)"),
        (torch.zeros(3, 4, 4), r"scores \[1, h, w\], not \(3, 4, 4\)"),
        (torch.full((1, 4, 4), 1.5), "from 0 to 1"),
        (torch.full((1, 4, 4), torch.nan), "from 0 to 1"),
    ],
)
def test_a_detector_that_gives_no_scores_is_refused(answer, said):
    with pytest.raises(ValueError, match=said):
        DetectedMasks(lambda frame: answer)(torch.zeros(3, 8, 8))


@pytest.mark.parametrize("field", ["threshold", "speck", "denoise", "dilate", "blur"])
def test_settings_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=field):
        Softening(**{field: -1})


def test_a_still_picture_is_the_mask_of_every_frame(tmp_path):
    grey = (noise("still", 24, 40) * 255).round() / 255
    path = written(tmp_path / "mask.png", grey)
    frame = torch.zeros(3, 24, 40)
    with FileMasks(path, 24, 40, num_frames=100) as masks:
        for _ in range(3):
            torch.testing.assert_close(masks(frame)[0], grey)
    with FileMasks(path, 48, 80) as masks:
        large = functional.interpolate(grey[None, None], (48, 80), mode="bilinear")[0]
        torch.testing.assert_close(masks(torch.zeros(3, 48, 80)), large)


def test_what_is_transparent_is_not_kept(tmp_path):
    alpha = torch.zeros(8, 8)
    alpha[:, 4:] = 1
    path = written(tmp_path / "mask.png", torch.ones(8, 8), alpha)
    assert torch.equal(FileMasks(path, 8, 8)(torch.zeros(3, 8, 8))[0], alpha)


def test_pictures_of_a_folder_are_taken_by_their_numbers(tmp_path):
    for number in range(12):
        written(tmp_path / f"mask{number}.png", torch.full((8, 8), number / 15))
    (tmp_path / "notes.txt").write_text("not a mask")
    (tmp_path / ".hidden.png").write_text("not one either")
    with FileMasks(tmp_path, 8, 8, 12) as masks:
        levels = [float(masks(torch.zeros(3, 8, 8)).mean()) for _ in range(12)]
    assert levels == pytest.approx([number / 15 for number in range(12)], abs=1e-6)


def test_a_video_is_taken_frame_by_frame(tmp_path):
    wanted = torch.zeros(6, 32, 48)
    for index in range(6):
        wanted[index, 8:24, 6 * index : 6 * index + 16] = 1
    with FileMasks(filmed(tmp_path / "masks.mp4", wanted), 32, 48, 6) as masks:
        for mask in wanted:
            assert float((masks(torch.zeros(3, 32, 48))[0] - mask).abs().max()) < 0.06


def test_sizes_that_do_not_fit_are_told_at_once(tmp_path):
    said = "40 x 24, which has not the proportions of frames of 48 x 48"
    written(tmp_path / "mask.png", torch.zeros(24, 40))
    (tmp_path / "folder").mkdir()
    written(tmp_path / "folder" / "0.png", torch.zeros(48, 48))
    written(tmp_path / "folder" / "1.png", torch.zeros(24, 40))
    filmed(tmp_path / "masks.mp4", torch.zeros(2, 24, 40))
    for name in ("mask.png", "folder", "masks.mp4"):
        with pytest.raises(InputError, match=said):
            FileMasks(tmp_path / name, 48, 48, 2)
    # 1080 rows of 608 columns are 9:16 but for rounding.
    written(tmp_path / "rounded.png", torch.zeros(320, 180))
    assert FileMasks(tmp_path / "rounded.png", 1080, 608)(torch.zeros(3, 1080, 608)).shape == (1, 1080, 608)


@pytest.mark.parametrize("kind", ["folder", "masks.mp4"])
def test_counts_that_do_not_fit_are_told(tmp_path, kind):
    path, frame = tmp_path / kind, torch.zeros(3, 16, 16)
    if kind == "folder":
        path.mkdir()
        for index in range(3):
            written(path / f"{index}.png", torch.zeros(16, 16))
    else:
        filmed(path, torch.zeros(3, 16, 16))
    for count in (2, 4):
        with pytest.raises(
            InputError, match=f"holds 3 masks, but the footage has {count} frames; give one for each"
        ):
            FileMasks(path, 16, 16, count)
    with FileMasks(path, 16, 16) as masks:
        for _ in range(3):
            masks(frame)
        with pytest.raises(InputError, match="holds 3 masks, but the footage has more frames"):
            masks(frame)


def test_what_is_no_mask_is_told(tmp_path, make_clip):
    clip = make_clip(tmp_path / "clip.mp4")
    with pytest.raises(InputError, match=r"clip.mp4 \(frame 0\) is in colour, not a mask"):
        FileMasks(clip, 48, 64)(torch.zeros(3, 48, 64))
    photo = tmp_path / "photo.png"
    write_image(Clip(noise("photo", 1, 3, 16, 16)), photo)
    with pytest.raises(InputError, match=r"photo.png is in colour, not a mask"):
        FileMasks(photo, 16, 16)(torch.zeros(3, 16, 16))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures to be masks"):
        FileMasks(tmp_path / "empty", 16, 16)
    with pytest.raises(InputError, match="does not exist"):
        FileMasks(tmp_path / "nowhere.png", 16, 16)
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(InputError, match="not a video of a known format"):
        FileMasks(tmp_path / "notes.txt", 16, 16)
