"""Vivid-VR's feature projector: latents of degraded footage made ready for a transformer that never saw any."""

import torch
from torch import Tensor, nn

_EPS = 1e-6


class SpatialResidual(nn.Module):
    """A residual block that sees each frame by itself and knows the diffusion time.

    Args:
        inputs, outputs: channels.
        times: width of the time's embedding.
        groups: of the norms.
    """

    def __init__(self, inputs: int, outputs: int, times: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=_EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(times, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=_EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None
        self.nonlinearity = nn.SiLU()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """`[N, C, H, W]` frames, `[N, times]`."""
        h = self.conv1(self.nonlinearity(self.norm1(x)))
        h = h + self.time_emb_proj(self.nonlinearity(time))[:, :, None, None]
        h = self.conv2(self.nonlinearity(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class TemporalResidual(nn.Module):
    """A residual block along time only; its norms look at all frames together.

    Args:
        channels: in and out.
        times: width of the time's embedding.
        groups: of the norms.
    """

    def __init__(self, channels: int, times: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=_EPS)
        self.conv1 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        self.time_emb_proj = nn.Linear(times, channels)
        self.norm2 = nn.GroupNorm(groups, channels, eps=_EPS)
        self.conv2 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        self.nonlinearity = nn.SiLU()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """`[B, C, T, H, W]`, `[B, times]`."""
        h = self.conv1(self.nonlinearity(self.norm1(x)))
        h = h + self.time_emb_proj(self.nonlinearity(time))[:, :, None, None, None]
        return x + self.conv2(self.nonlinearity(self.norm2(h)))


class Mixer(nn.Module):
    """One learnt weight between what was seen frame by frame and what was seen along time."""

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([0.5]))

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        share = torch.sigmoid(self.mix_factor).to(spatial.dtype)
        return share * spatial + (1 - share) * temporal


class SpatioTemporalResidual(nn.Module):
    """A residual block in space, then one in time, and a learnt mixture of both answers."""

    def __init__(self, inputs: int, outputs: int, times: int, groups: int) -> None:
        super().__init__()
        self.spatial_res_block = SpatialResidual(inputs, outputs, times, groups)
        self.temporal_res_block = TemporalResidual(outputs, times, groups)
        self.time_mixer = Mixer()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """`[B, C, T, H, W]`, `[B, times]`: every frame of a sample is told that sample's time."""
        count = x.shape[2]
        frames = x.transpose(1, 2).flatten(0, 1)
        spatial = self.spatial_res_block(frames, time.repeat_interleave(count, dim=0))
        spatial = spatial.unflatten(0, (-1, count)).transpose(1, 2)
        return self.time_mixer(spatial, self.temporal_res_block(spatial, time))


def feature_projector(channels: int, times: int, width: int = 320, groups: int = 16) -> nn.ModuleList:
    """Three spatio-temporal residual blocks: latents in, latents out; none begins at zero.

    Its tensors are named as in the released checkpoint.

    Args:
        channels: of the latents.
        times: width of the diffusion time's embedding.
        width: of the hidden features.
        groups: of the norms of the first and last block; the middle one has twice as many.

    Source: Vivid-VR (arXiv 2508.14483, section 3.2); the released code adds the diffusion time.
    """
    return nn.ModuleList(
        [
            SpatioTemporalResidual(channels, width, times, groups),
            SpatioTemporalResidual(width, width, times, 2 * groups),
            SpatioTemporalResidual(width, channels, times, groups),
        ]
    )


def projected(blocks: nn.ModuleList, low: Tensor, time: Tensor) -> Tensor:
    """Latents of degraded footage through the projector.

    Args:
        blocks: what `feature_projector` made.
        low: `[B, z, k, h, w]`.
        time: the diffusion time's embedding, `[B, times]`.
    """
    for block in blocks:
        low = block(low, time)
    return low
