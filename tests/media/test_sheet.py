"""Contact sheets are tidy."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unfade.media.sheet import contact_sheet


def test_frames_lie_in_a_grid(smooth: Callable[..., Tensor]) -> None:
    frames = [torch.full((3, 30, 40), value) for value in (0.0, 0.5, 1.0)]
    sheet = contact_sheet(frames, columns=2, width=200)
    gap = 2
    assert sheet.shape == (3, 2 * 30 + 3 * gap, 2 * 40 + 3 * gap)
    assert torch.equal(sheet[:, gap : gap + 30, gap : gap + 40], frames[0])
    assert torch.equal(sheet[:, gap : gap + 30, 2 * gap + 40 : 2 * gap + 80], frames[1])
    assert torch.equal(sheet[:, 2 * gap + 30 : 2 * gap + 60, gap : gap + 40], frames[2])
    empty = sheet[:, 2 * gap + 30 :, 2 * gap + 40 :]
    assert empty.unique().numel() == 1


def test_the_width_is_kept_and_frames_may_be_a_stream(smooth: Callable[..., Tensor]) -> None:
    for count, columns in ((1, None), (9, None), (9, 4), (5, 9)):
        sheet = contact_sheet((smooth(120, 160, i / 9) for i in range(count)), columns=columns, width=300)
        assert sheet.shape[2] <= 300 and sheet.shape[0] == 3
        assert 0 <= float(sheet.min()) and float(sheet.max()) <= 1
    sheet = contact_sheet([smooth(120, 160)] * 9, width=300)
    assert 0.5 < sheet.shape[1] / sheet.shape[2] < 1.2


def test_labels_are_drawn_below_the_frames() -> None:
    frames = [torch.zeros(3, 60, 80)] * 2
    plain = contact_sheet(frames, columns=2, width=200)
    named = contact_sheet(frames, columns=2, labels=["tau 0.00", "<b>&"], width=200)
    assert named.shape[1] > plain.shape[1] and named.shape[2] == plain.shape[2]
    assert torch.equal(named[:, :62], plain[:, :62])
    for half in (named[:, 62:, :82], named[:, 62:, 84:]):
        assert float(half.max()) > 0.6


def test_requests_that_make_no_sense() -> None:
    frame = torch.zeros(3, 8, 8)
    with pytest.raises(ValueError, match="at least one frame"):
        contact_sheet([])
    with pytest.raises(ValueError, match="as many labels"):
        contact_sheet([frame], labels=["a", "b"])
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([frame, torch.zeros(3, 9, 8)])
    with pytest.raises(ValueError, match="one column"):
        contact_sheet([frame], columns=0)
