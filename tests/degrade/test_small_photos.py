"""Photos smaller than a kernel are blurred too, and nothing hangs."""

import pytest
import torch

from unfade.degrade.blur import convolve, gaussian_kernels


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 4)])
def test_a_kernel_may_be_larger_than_the_photo(size: tuple[int, int]) -> None:
    flat = torch.full((1, 3, *size), 0.25)
    blurred = convolve(flat, gaussian_kernels(torch.tensor([4.0])))
    torch.testing.assert_close(blurred, flat)


def test_borders_are_reflected_as_pytorch_does() -> None:
    x = torch.rand(1, 1, 9, 9)
    kernel = gaussian_kernels(torch.tensor([1.0]))
    padded = torch.nn.functional.pad(x, (3,) * 4, mode="reflect")
    torch.testing.assert_close(convolve(x, kernel), torch.nn.functional.conv2d(padded, kernel[None]))
