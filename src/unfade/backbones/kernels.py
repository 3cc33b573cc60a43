"""Convolutions whose kernels are mixed for each photo, out of several that were trained for different damage.

A network of this size can be good at a few things. Noise, blur and compression pull its kernels in different
directions, so there are several kernels for each layer, and a photo is restored by a mixture of them: more weights
to keep, and the same arithmetic for every pixel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Kernels(nn.Module):
    """A convolution with `count` kernels.

    Args:
        inputs, outputs: channels.
        side: of the kernels.
        count: how many kernels there are to mix.
        stride: of the convolution; odd sides are padded to keep the size, even ones not at all.

    Source: CondConv (Yang et al. 2019, arXiv 1904.04971, eq. 1).
    """

    def __init__(self, inputs: int, outputs: int, side: int, count: int, stride: int = 1) -> None:
        super().__init__()
        # What Conv2d starts from, the same for all: photos part them.
        first = nn.Conv2d(inputs, outputs, side)
        assert first.bias is not None
        # An output's kernels lie one beside the other, so that an optimizer that looks at matrices sees them as one,
        # and a single kernel lies as that of any other convolution.
        self.weight = nn.Parameter(first.weight.detach().repeat(1, count, 1, 1))
        self.bias = nn.Parameter(first.bias.detach().repeat_interleave(count))
        self.count = count
        self.stride = stride
        self.padding = side // 2 if side % 2 else 0

    def forward(
        self, x: Tensor, shares: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """`scale * convolution(x) + shift`, each photo by its own mixture.

        Args:
            x: `[B, inputs, H, W]`.
            shares: of the kernels, `[B, count]`, or `[1, count]` where they are the same for all photos.
            scale, shift: `[B, outputs]` (FiLM, Perez et al. 2018, eq. 1); left out, 1 and 0.
        """
        shares = shares.to(self.weight.dtype)
        weight = torch.einsum("bk,okihw->boihw", shares, self.weight.unflatten(1, (self.count, -1)))
        bias = shares @ self.bias.unflatten(0, (-1, self.count)).T
        if scale is not None and shift is not None and len(weight) == len(x):
            # A mixture of a photo's own takes up what else is its own.
            weight, bias = weight * scale[:, :, None, None, None], torch.addcmul(shift, bias, scale)
            scale = shift = None
        if len(weight) > 1:
            x = self._apart(x, weight, bias)
        else:
            x = functional.conv2d(x, weight[0], bias[0], self.stride, self.padding)
        if scale is None or shift is None:
            return x
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])

    def _apart(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Each photo by its own kernel, `[B, outputs, inputs, side, side]`: one group of channels a photo."""
        joined = x.contiguous().view(1, -1, *x.shape[2:])
        kernels, padding = weight.flatten(0, 1), self.padding
        joined = functional.conv2d(joined, kernels, bias.flatten(), self.stride, padding, groups=len(x))
        return joined.view(len(x), -1, *joined.shape[2:])
