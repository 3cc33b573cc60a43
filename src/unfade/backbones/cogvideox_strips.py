"""CogVideoX's VAE in a fraction of the memory: layer by layer, every layer in strips of rows, the same pixels.

Its norms look at the whole picture, so tiles of the whole network would change results, as diffusers' own do. Here each
norm's mean and variance are those of the whole; what comes after it, and the convolution, is computed for some rows at
a time, with the rows around them that the convolution reaches. What a block adds to its input is added in place.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Strips as small as that, or smaller: what one chunk leaves for the next waits on the host.
ASIDE = 256
_MOST = 1 << 30  # values that a convolution is given at once
_BACK = 2  # frames that a causal convolution looks back

# Activations of some rows of a tensor, in memory of their own.
_Rows = Callable[[int, int], Tensor]


class Strips:
    """One chunk after another of one clip through the VAE's encoder or decoder.

    What it gives equals diffusers' `CogVideoXEncoder3D` and `CogVideoXDecoder3D` up to rounding.

    Args:
        side: a strip has as many places as a square of this side.

    Raises:
        ValueError: the side is less than 1.
    """

    def __init__(self, side: int) -> None:
        if side < 1:
            raise ValueError(f"strips have at least one place, not a side of {side}")
        self._places = side * side
        self._aside = side <= ASIDE
        self._kept: dict[str, _Kept] = {}

    def encode(self, encoder: Any, pixels: Tensor) -> Tensor:
        """The moments `[B, 2 z, k, h, w]` of a chunk of pixels `[B, 3, t, H, W]` in [-1, 1]."""
        x = self._convolved("in", encoder.conv_in, pixels, lambda top, stop: pixels[..., top:stop, :])
        for index, block in enumerate(encoder.down_blocks):
            x = self._block(f"down {index}", block, x, None)
            for sampler in block.downsamplers or ():
                x = self._smaller(sampler, x)
        x = self._block("mid", encoder.mid_block, x, None)
        return self._convolved("out", encoder.conv_out, x, self._active(encoder.norm_out, x, None))

    def decode(self, decoder: Any, z: Tensor) -> Tensor:
        """The pixels `[B, 3, t, H, W]` of a chunk of latents `[B, z, k, h, w]`."""
        x = self._convolved("in", decoder.conv_in, z, lambda top, stop: z[..., top:stop, :])
        x = self._block("mid", decoder.mid_block, x, z)
        for index, block in enumerate(decoder.up_blocks):
            x = self._block(f"up {index}", block, x, z)
            for sampler in block.upsamplers or ():
                x = self._larger(sampler, x)
        return self._convolved("out", decoder.conv_out, x, self._active(decoder.norm_out, x, z))

    def _block(self, name: str, block: Any, x: Tensor, z: Tensor | None) -> Tensor:
        """The residual blocks of a block, in `x` itself where its channels suffice."""
        for index, resnet in enumerate(block.resnets):
            inner = self._convolved(f"{name} {index} 1", resnet.conv1, x, self._active(resnet.norm1, x, z))
            channels = resnet.conv2.conv.out_channels
            target = (
                x[:, :channels] if channels <= x.shape[1] else x.new_empty(len(x), channels, *x.shape[2:])
            )
            shortcut = resnet.conv_shortcut if channels != x.shape[1] else nn.Identity()

            def added(
                made: Tensor, top: int, stop: int, x: Tensor = x, shortcut: nn.Module = shortcut
            ) -> Tensor:
                return made.add_(shortcut(x[..., top:stop, :]))

            self._convolved(
                f"{name} {index} 2", resnet.conv2, inner, self._active(resnet.norm2, inner, z), target, added
            )
            x = target
            # Else the next ones would be made while these are still there.
            del inner, added
        return x

    def _active(self, norm: Any, x: Tensor, z: Tensor | None) -> _Rows:
        """`SiLU(norm(x))` by rows; with latents `z` the norm is scaled and shifted by what is at a place."""
        group: nn.GroupNorm = norm if z is None else norm.norm_layer
        scale, shift = self._affine(group, x)
        around = None if z is None else (norm.conv_y.conv(z), norm.conv_b.conv(z))

        def active(top: int, stop: int) -> Tensor:
            made = torch.addcmul(shift, x[..., top:stop, :], scale).to(x.dtype)
            if around is not None:
                made.mul_(_stretched(around[0], x, top, stop))
                made.add_(_stretched(around[1], x, top, stop))
            return functional.silu(made, inplace=True)

        return active

    def _affine(self, norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
        """What a group norm of the whole multiplies each channel with and adds to it, `[B, C, 1, 1, 1]`."""
        parts = [
            torch.var_mean(
                x[..., top:stop, :].unflatten(1, (norm.num_groups, -1)).float(), (2, 3, 4, 5), correction=0
            )
            for top, stop in self._cut(x.shape[3], x.shape[4], x.device)
        ]
        shares = [(stop - top) / x.shape[3] for top, stop in self._cut(x.shape[3], x.shape[4], x.device)]
        mean = sum(share * one[1].double() for share, one in zip(shares, parts, strict=True))
        variance = sum(
            share * (one[0].double() + (one[1].double() - mean).square())
            for share, one in zip(shares, parts, strict=True)
        )
        assert isinstance(mean, Tensor) and isinstance(variance, Tensor), "a picture has at least one row"
        each = x.shape[1] // norm.num_groups
        factor = (variance + norm.eps).rsqrt().repeat_interleave(each, 1) * norm.weight.double()
        offset = norm.bias.double() - mean.repeat_interleave(each, 1) * factor
        return tuple(one.float()[:, :, None, None, None] for one in (factor, offset))  # type: ignore[return-value]

    def _convolved(
        self,
        name: str,
        causal: Any,
        x: Tensor,
        rows: _Rows,
        target: Tensor | None = None,
        finish: Callable[[Tensor, int, int], Tensor] = lambda made, top, stop: made,
    ) -> Tensor:
        """A causal convolution of 3x3x3 over what `rows` makes of `x`, written to `target`."""
        convolution: nn.Conv3d = causal.conv
        batch, channels, frames, height, width = (len(x), convolution.in_channels, *x.shape[2:])
        out = (
            x.new_empty(batch, convolution.out_channels, frames, height, width) if target is None else target
        )
        begins = name not in self._kept
        if begins:
            self._kept[name] = _Kept(x, (batch, channels, _BACK, height, width), self._aside)
        kept = self._kept[name]
        before: Tensor | None = None
        for top, stop in self._cut(height, width, x.device, batch * channels * (_BACK + frames)):
            low, high = max(0, top - 1), min(height, stop + 1)
            window = x.new_zeros(batch, channels, _BACK + frames, stop - top + 2, width)
            inner = window[..., low - top + 1 : high - top + 1, :]
            inner[:, :, _BACK:] = rows(low, high)
            if begins:
                inner[:, :, :_BACK] = inner[:, :, _BACK : _BACK + 1]
            else:
                inner[:, :, :_BACK] = kept.read(low, high, x)
                if before is not None:
                    # What the strip above has already replaced.
                    inner[:, :, :_BACK, :1] = before
                before = inner[:, :, :_BACK, stop - 1 - low : stop - low].clone()
            kept.write(top, inner[:, :, -_BACK:, top - low : stop - low])
            made = functional.conv3d(window, convolution.weight, convolution.bias, padding=(0, 0, 1))
            del window, inner
            out[..., top:stop, :] = finish(made, top, stop)
        return out

    def _larger(self, sampler: Any, x: Tensor) -> Tensor:
        """Twice the sides by repeating places, and perhaps twice the frames after the first, then a convolution."""
        sources = list(range(x.shape[2]))
        if sampler.compress_time and len(sources) > 1:
            odd = len(sources) % 2
            sources = [*sources[:odd], *(source for source in sources[odd:] for _ in range(2))]
        batch, channels, _, height, width = x.shape
        out = x.new_empty(batch, sampler.conv.out_channels, len(sources), 2 * height, 2 * width)
        for top, stop in self._cut(2 * height, 2 * width, x.device):
            low, high = max(0, top - 1), min(2 * height, stop + 1)
            at = torch.arange(low, high, device=x.device) // 2
            for place, source in enumerate(sources):
                if place and source == sources[place - 1]:
                    out[:, :, place, top:stop] = out[:, :, place - 1, top:stop]
                    continue
                window = x.new_zeros(batch, channels, stop - top + 2, 2 * width)
                twice = x[:, :, source].index_select(2, at).repeat_interleave(2, dim=3)
                window[:, :, low - top + 1 : high - top + 1] = twice
                made = functional.conv2d(window, sampler.conv.weight, sampler.conv.bias, padding=(0, 1))
                out[:, :, place, top:stop] = made
        return out

    def _smaller(self, sampler: Any, x: Tensor) -> Tensor:
        """Half the frames after the first by their means, perhaps, then half the sides by a convolution."""
        sources: list[tuple[int, ...]] = [(index,) for index in range(x.shape[2])]
        if sampler.compress_time:
            odd = len(sources) % 2
            pairs = [(first, first + 1) for first in range(odd, len(sources), 2)]
            sources = [*sources[:odd], *pairs]
        batch, channels, _, height, width = x.shape
        # One row and one column of zeros follow, and the kernel has three.
        rows, columns = (height - 2) // 2 + 1, (width - 2) // 2 + 1
        out = x.new_empty(batch, sampler.conv.out_channels, len(sources), rows, columns)
        for top, stop in self._cut(rows, 2 * width, x.device):
            low, high = 2 * top, min(height, 2 * stop + 1)
            for place, source in enumerate(sources):
                window = x.new_zeros(batch, channels, 2 * (stop - top) + 1, width + 1)
                part = x[:, :, source[0], low:high]
                if len(source) == 2:
                    part = (part + x[:, :, source[1], low:high]) / 2
                window[:, :, : high - low, :width] = part
                made = functional.conv2d(window, sampler.conv.weight, sampler.conv.bias, stride=2)
                out[:, :, place, top:stop] = made
        return out

    def _cut(self, height: int, width: int, device: torch.device, values: int = 1) -> list[tuple[int, int]]:
        """The rows of each strip; where memory is only counted, the first two, since the others need as much.

        Args:
            height, width: of what is cut.
            device: where it is.
            values: at each place; a convolution gets no more of them than it can count in 32 bits.
        """
        each = max(1, min(self._places, _MOST // values) // width)
        tops = range(0, height, each)[: 2 if device.type == "meta" else None]
        return [(top, min(height, top + each)) for top in tops]


class _Kept:
    """The last frames that a convolution saw, for the next chunk: on the device, or on the host.

    On the meta device, where memory is only counted, what would wait on the host is not there at all.
    """

    def __init__(self, like: Tensor, shape: tuple[int, ...], aside: bool) -> None:
        self._gone = aside and like.device.type == "meta"
        device = torch.device("cpu") if aside and not self._gone else like.device
        self._frames = torch.empty((0,) if self._gone else shape, dtype=like.dtype, device=device)

    def read(self, top: int, stop: int, like: Tensor) -> Tensor:
        """Some rows, on the device of `like`."""
        if self._gone:
            return like.new_empty(())
        return self._frames[..., top:stop, :].to(like.device)

    def write(self, top: int, rows: Tensor) -> None:
        if not self._gone:
            self._frames[..., top : top + rows.shape[3], :] = rows.to(self._frames.device)


def _stretched(small: Tensor, x: Tensor, top: int, stop: int) -> Tensor:
    """Values of the latents' places repeated to the places of rows of `x`; an odd first frame has its own latent."""
    latents, height, width = small.shape[2:]
    count = x.shape[2]
    if small.device.type == "meta":
        # Where memory is only counted, indices would take most of the time.
        return small.new_empty(*small.shape[:2], count, stop - top, x.shape[4])
    first = 1 if count > 1 and count % 2 else 0
    frames = torch.arange(count - first, device=x.device) * (latents - first) // (count - first) + first
    if first:
        frames = torch.cat([frames.new_zeros(1), frames])
    rows = torch.arange(top, stop, device=x.device) * height // x.shape[3]
    columns = torch.arange(x.shape[4], device=x.device) * width // x.shape[4]
    return small.index_select(3, rows).index_select(2, frames).index_select(4, columns)
