"""What lies under full transparency is filled from what is seen."""

import pytest
import torch

from unfade.media.hidden import filled


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (64, 33)])
def test_visible_pixels_stay_and_hidden_ones_do_not_matter(size: tuple[int, int]) -> None:
    colour = torch.rand(2, 3, *size)
    alpha = (torch.rand(2, 1, *size) > 0.6).float()
    other = torch.where(alpha > 0, colour, 1 - colour)
    result = filled(colour, alpha)
    assert torch.equal(torch.where(alpha > 0, result, colour), colour)
    assert torch.equal(result, filled(other, alpha))
    assert 0 <= float(result.min())
    assert float(result.max()) <= 1


def test_a_flat_colour_is_spread_evenly() -> None:
    alpha = torch.zeros(1, 1, 40, 40)
    alpha[..., 10:20, 5:15] = 1
    torch.testing.assert_close(
        filled(alpha * 0.3 + torch.zeros(1, 3, 40, 40), alpha), torch.full((1, 3, 40, 40), 0.3)
    )


def test_nothing_visible_is_grey() -> None:
    assert filled(torch.rand(1, 3, 6, 6), torch.zeros(1, 1, 6, 6)).unique().tolist() == [0.5]
