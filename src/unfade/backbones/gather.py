"""What neighbouring frames know of a frame, put into it before `tiny` restores it.

Noise, blocks and rain are new in every frame and the scene is not. Each neighbour is moved to where the frame is
(`backbones.motion`); a small network says for every pixel how much each of them is worth there, and what is left to
mend in their average. All it makes is another frame, a better one, so that `tiny` itself needs to know nothing of
footage: a photo, which has no neighbours, costs what it did.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unfade.backbones.motion import Levels, fetched, larger, motion

# Frames before and after the present one that are looked at.
REACH = 2
# Pixels beyond which nothing can influence a pixel of the result, besides the motion.
HALO = 32
# Pixels that are worked on together, so that large frames take little room.
_STRIP = 2**20


def modulated(layer: nn.Conv2d, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`scale * layer(x) + shift` (FiLM, Perez et al. 2018, eq. 1); those of a single frame go into the weights.

    Args:
        layer: 3 by 3, with a bias.
        x: `[B, C, H, W]`.
        scale, shift: one a channel.
    """
    if len(x) == 1 and not torch.is_grad_enabled():
        weight = layer.weight * scale[0, :, None, None, None]
        bias = layer.bias * scale[0] + shift[0]  # type: ignore[operator]
        return functional.conv2d(x, weight, bias, padding=1)
    return torch.addcmul(shift[:, :, None, None], layer(x), scale[:, :, None, None])


class Gather(nn.Module):
    """A frame made of itself and its neighbours.

    Args:
        context: width of `tiny`'s context vector, which says what is to go and what is to stay.
        width: channels at half the size of the frame.
        mending: residual blocks that mend the average.

    Source: multi-frame fusion after alignment by optical flow, with weights that a network tells for every pixel, as in
        Xue et al. 2019 (TOFlow, arXiv 1711.09078); the network is this project's.
    """

    def __init__(self, context: int, width: int = 32, mending: int = 3) -> None:
        super().__init__()
        self.compare = nn.Conv2d(24, width, 3, padding=1)
        self.weigh = nn.Conv2d(width, width, 3, padding=1)
        self.worth = nn.Conv2d(width, 4, 3, padding=1)
        self.own = nn.Linear(context, 1)
        self.wish = nn.Linear(context, 2 * width)
        self.enter = nn.Conv2d(12 + 12 + 4, width, 3, padding=1)
        self.mend = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2 * mending))
        self.films = nn.ModuleList(nn.Linear(context, 2 * width) for _ in range(mending))
        self.leave = nn.Conv2d(width, 12, 3, padding=1)
        for layer in (self.worth, self.own, self.wish, self.leave, *self.films, *self.mend[1::2]):
            assert isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def trunk(self) -> list[nn.Module]:
        """The convolutional part, whose cost grows with the frame."""
        return [self.compare, self.weigh, self.worth, self.enter, self.mend, self.leave]

    def forward(
        self, frame: Tensor, others: Sequence[Tensor], levels: Sequence[Levels], context: Tensor
    ) -> Tensor:
        """The frame with what the others know of it.

        Args:
            frame: `[B, 3, H, W]` in [0, 1], H and W even.
            others: its neighbours, at least one, each of that shape.
            levels: of the frame, then of each neighbour.
            context: of the shots, `[B, C]`.

        Returns:
            `[B, 3, H, W]` in float32, hardly ever outside [0, 1].
        """
        height, width = frame.shape[2:]
        flows = motion(levels[0], levels[1:])
        rows = max(2 * HALO, _STRIP // width // 2 * 2)
        strips = []
        for top in range(0, height, rows):
            above, below = max(0, top - HALO), min(height, top + rows + HALO)
            strip = self._strip(frame, others, flows, context, above, below)
            strips.append(strip[:, :, top - above : top - above + rows])
        return strips[0] if len(strips) == 1 else torch.cat(strips, 2)

    def _strip(
        self, frame: Tensor, others: Sequence[Tensor], flows: Tensor, context: Tensor, top: int, bottom: int
    ) -> Tensor:
        """Some rows of the result; those within `HALO` of the strip's ends are right only at the frame's own ends."""
        own = frame[:, :, top:bottom]
        flows = flows[:, :, :, top // 2 : bottom // 2]
        moved = [
            fetched(other, larger(flow, bottom - top, frame.shape[3]), top)
            for other, flow in zip(others, flows, strict=True)
        ]
        shares = self._shares(own, moved, context)
        average = shares[0] * own
        for share, other in zip(shares[1:], moved, strict=True):
            average = average + share * other
        return average + self._missing(own, average, shares[0], context)

    def _shares(self, frame: Tensor, moved: Sequence[Tensor], context: Tensor) -> Tensor:
        """Of the frame and of each neighbour in the average, `[1 + N, B, 1, H, W]`."""
        dtype = self.compare.weight.dtype
        own = functional.pixel_unshuffle(frame, 2)
        scale, shift = self.wish(context).to(dtype).chunk(2, 1)
        worths = [self.own(context)[:, :, None, None].float().expand(-1, 1, *frame.shape[2:])]
        for other in moved:
            difference = functional.pixel_unshuffle(other, 2) - own
            # What differs by no more than noise should look large enough to be told from what is another thing.
            seen = torch.cat((own, 4 * difference.abs()), 1).to(dtype)
            hidden = modulated(
                self.compare, seen.contiguous(memory_format=torch.channels_last), 1 + scale, shift
            )
            hidden = self.weigh(functional.relu_(hidden))
            worths.append(functional.pixel_shuffle(self.worth(functional.relu_(hidden)), 2).float())
        return torch.stack(worths).softmax(0)

    def _missing(self, frame: Tensor, average: Tensor, own_share: Tensor, context: Tensor) -> Tensor:
        """What the average lacks, `[B, 3, H, W]`."""
        dtype = self.enter.weight.dtype
        folded = [functional.pixel_unshuffle(part, 2) for part in (average, frame - average, own_share)]
        hidden = self.enter(torch.cat(folded, 1).to(dtype).contiguous(memory_format=torch.channels_last))
        for first, second, film in zip(self.mend[::2], self.mend[1::2], self.films, strict=True):
            assert isinstance(first, nn.Conv2d), "as it was made"
            scale, shift = film(context).to(dtype).chunk(2, 1)
            hidden = second(functional.relu_(modulated(first, hidden, 1 + scale, shift))).add_(hidden)
        return functional.pixel_shuffle(self.leave(hidden), 2).float()
