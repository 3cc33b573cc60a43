"""Kernels mixed for each photo."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from unfade.backbones.kernels import Kernels


def parted(count: int, side: int = 3, stride: int = 1) -> Kernels:
    """Kernels that differ from one another."""
    torch.manual_seed(0)
    kernels = Kernels(4, 6, side, count, stride)
    for parameter in kernels.parameters():
        nn.init.normal_(parameter)
    return kernels


def apart(kernels: Kernels, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of one of them, by hand."""
    weight = kernels.weight[:, 4 * index : 4 * (index + 1)]
    return weight, kernels.bias[index :: kernels.count]


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (1, 1), (2, 2)])
def test_a_mixture_is_the_mixture_of_what_each_would_say(side: int, stride: int) -> None:
    kernels, x = parted(3, side, stride), torch.randn(2, 4, 8, 6)
    shares = torch.rand(2, 3).softmax(1)
    answers = [
        functional.conv2d(x, *apart(kernels, index), stride=stride, padding=side // 2 if side % 2 else 0)
        for index in range(3)
    ]
    expected = sum(shares[:, index, None, None, None] * answer for index, answer in enumerate(answers))
    torch.testing.assert_close(kernels(x, shares), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_scale_and_shift_are_applied_afterwards(batch: int, shared: bool) -> None:
    kernels, x = parted(2), torch.randn(batch, 4, 8, 8)
    shares = torch.rand(1 if shared else batch, 2).softmax(1)
    scale, shift = torch.randn(batch, 6), torch.randn(batch, 6)
    expected = kernels(x, shares) * scale[:, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(kernels(x, shares, scale, shift), expected, atol=1e-5, rtol=1e-5)


def test_one_kernel_is_a_convolution() -> None:
    torch.manual_seed(0)
    usual = nn.Conv2d(4, 6, 3, padding=1)
    kernels, x = Kernels(4, 6, 3, 1), torch.randn(2, 4, 8, 8)
    kernels.load_state_dict(usual.state_dict())
    assert torch.equal(kernels(x, torch.ones(1, 1)), usual(x))


def test_each_photo_teaches_the_kernels_it_took() -> None:
    kernels, x = parted(3), torch.randn(2, 4, 8, 8)
    shares = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    kernels(x, shares).square().sum().backward()
    assert kernels.weight.grad is not None
    touched = kernels.weight.grad.unflatten(1, (3, 4)).abs().amax((0, 2, 3, 4))
    assert touched[0] > 0 and touched[2] > 0 and touched[1] == 0
