"""Causal 3D convolutions computed as 2D ones: three times as fast on a CPU, and in bf16 as well."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def folded(conv: Any, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
    """What diffusers' `WanCausalConv3d`, or a 3D convolution without padding in time, computes by one 2D convolution.

    Frames join the batch and the kernel's moments the channels. Moments that would only see the zeros before the
    first frame are left out, so a photo costs a third. oneDNN's 3D convolutions abort the process under bf16
    autocast on CPU (torch 2.13); these don't.

    Args:
        conv: the module, with kernel and stride; Wan's has `_padding` (across twice, down twice, past, future).
        x: `[B, C, T, H, W]`.
        cache_x: frames before `x`, or None.

    Returns:
        `[B, C', T', H', W']`.
    """
    moments, every = conv.kernel_size[0], conv.stride[0]
    around = conv._padding if hasattr(conv, "_padding") else (conv.padding[2], 0, conv.padding[1], 0, 0)
    past = around[4]
    if cache_x is not None and past > 0:
        x = torch.cat([cache_x.to(x.dtype), x], dim=2)
        past -= cache_x.shape[2]
    count = (x.shape[2] + past - moments) // every + 1
    if count == 1:
        seen = range(past, moments)
        frames = torch.cat([x[:, :, moment - past] for moment in seen], dim=1)
    else:
        seen = range(moments)
        x = functional.pad(x, (0, 0, 0, 0, past, 0)) if past else x
        reach = (count - 1) * every + 1
        parts = [x[:, :, moment : moment + reach : every] for moment in seen]
        frames = torch.cat(parts, dim=1).transpose(1, 2).flatten(0, 1)
    kernel = conv.weight[:, :, seen.start : seen.stop].transpose(1, 2).flatten(1, 2)
    result = functional.conv2d(
        frames.contiguous(memory_format=torch.channels_last),
        kernel.contiguous(memory_format=torch.channels_last),
        conv.bias,
        stride=conv.stride[1:],
        padding=(around[2], around[0]),
    )
    return result.unflatten(0, (x.shape[0], count)).transpose(1, 2)


def folded_causal(
    causal: Any, inputs: Tensor, conv_cache: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """What diffusers' `CogVideoXCausalConv3d` computes.

    Before the first frame it sees copies of it, so a photo is all that its kernel sees: the kernel's moments are
    summed first.

    Args:
        causal: the module.
        inputs: `[B, C, T, H, W]`.
        conv_cache: frames before `inputs`, or None.

    Returns:
        `[B, C', T, H, W]`, and what the next chunk's `conv_cache` has to be.
    """
    conv, moments = causal.conv, causal.time_kernel_size
    if inputs.shape[2] == 1 and conv_cache is None:
        photo = inputs[:, :, 0].contiguous(memory_format=torch.channels_last)
        kernel = conv.weight.sum(2).contiguous(memory_format=torch.channels_last)
        answer = functional.conv2d(photo, kernel, conv.bias, padding=conv.padding[1:])[:, :, None]
        return answer, torch.cat([inputs] * (moments - 1), dim=2) if moments > 1 else inputs
    seen = causal.fake_context_parallel_forward(inputs, conv_cache)
    return folded(conv, seen), seen[:, :, 1 - moments :]


def folded_norm(norm: Any, f: Tensor, zq: Tensor, conv_cache: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
    """What diffusers' `CogVideoXSpatialNorm3D` computes: its convolutions look at single pixels, so they come before
    the latents are repeated up to the size of the features, not after."""
    told = torch.cat([folded(part.conv, zq) for part in (norm.conv_y, norm.conv_b)], dim=1)
    if f.shape[2] > 1 and f.shape[2] % 2:
        parts = ((told[:, :, :1], f[:, :, :1]), (told[:, :, 1:], f[:, :, 1:]))
        told = torch.cat([functional.interpolate(part, size=like.shape[-3:]) for part, like in parts], dim=2)
    else:
        told = functional.interpolate(told, size=f.shape[-3:])
    scale, shift = told.chunk(2, dim=1)
    return torch.addcmul(shift, norm.norm_layer(f), scale), {}


_FOLDED: dict[str, Callable[..., Any]] = {
    "CogVideoXCausalConv3d": folded_causal,
    "CogVideoXSpatialNorm3D": folded_norm,
}


@contextmanager
def folded_convolutions(vae: nn.Module) -> Iterator[None]:
    """Inside the block every 3D convolution of a Wan or CogVideoX VAE is computed as 2D ones; weights are the same."""
    changed: list[nn.Module] = []
    for module in vae.modules():
        way = _FOLDED.get(type(module).__name__) or (folded if isinstance(module, nn.Conv3d) else None)
        if way:
            module.forward = partial(way, module)  # type: ignore[assignment]
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward
