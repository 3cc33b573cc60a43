"""`tiny`: a network that predicts the clean clip from (state, degraded, tau, prompt), small enough to ship.

A three-level U-Net of plain 3x3 residual blocks on pixels folded two by two. What concerns the whole photo is
decided from the whole of it, never from a tile: its light from a thumbnail, its damage from the spectrum of its
blocks. The thumbnail, the prompt and tau make one context vector, which sets a tone curve per colour and modulates
the lower levels; the spectrum and the prompt say which of the network's skills it takes, that is, which mixture of
several kernels each layer works with. The network adds a residual to its current estimate: the toned photo at the
start, its own earlier answer later on.

It knows nothing about files, tiles or degradations.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unfade.backbones.kernels import Kernels
from unfade.backbones.spectrum import SPECTRUM, as_evidence
from unfade.backbones.words import WordEncoder

THUMBNAIL = 32
SIZE_MULTIPLE = 8

# Pixels at the top, left, bottom and right.
Margins = tuple[int, int, int, int]
NO_MARGINS: Margins = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyConfig:
    """Sizes of the network.

    Attributes:
        widths: channels at 1/2, 1/4 and 1/8 of the photo's size.
        blocks: residual blocks before and after the middle at 1/2 and 1/4, and in the middle at 1/8.
        skills: kernels that each layer at 1/2, 1/4 and 1/8 mixes for a photo.
        context: width of the context vector.
        buckets: hash buckets for words.
        later: share of its correction of an earlier answer that a later one follows; many steps add corrections up.
    """

    widths: tuple[int, int, int] = (32, 64, 128)
    blocks: tuple[int, int, int] = (2, 3, 4)
    skills: tuple[int, int, int] = (5, 5, 3)
    context: int = 128
    buckets: int = 2048
    later: float = 1.0

    @property
    def reach(self) -> int:
        """Pixels beyond which nothing can influence a result, however the weights are."""
        top, middle, bottom = self.blocks
        reach = 2 * (2 + 4 * top) + 4 * (4 * middle) + 8 * (2 * bottom)
        return -(-(reach + 8) // SIZE_MULTIPLE) * SIZE_MULTIPLE

    @property
    def halo(self) -> int:
        """Pixels of surroundings that tiles see on every side: five ninths of the reach.

        What lies farther away changes the shipped network's result by less than rounding to 8 bits does (noise of
        sigma 25: 0.02 grey levels at most; of sigma 50: 0.4; a test holds it).
        """
        return -(-5 * self.reach // (9 * SIZE_MULTIPLE)) * SIZE_MULTIPLE

    @property
    def guards(self) -> tuple[int, int]:
        """Pixels around a window within which the layers after the ways up to 1/4 and to 1/2 of the size look."""
        top, middle, _ = self.blocks
        top = -(-2 * (2 * top + 1) // 4) * 4
        return top + 4 * (2 * middle), top

    @staticmethod
    def of(values: dict[str, Any]) -> "TinyConfig":
        """The configuration from its JSON form."""
        # Files from before there were several skills have one.
        sizes = {name: tuple(values.get(name, (1, 1, 1))) for name in ("widths", "blocks", "skills")}
        later = values.get("later", 1.0)
        return TinyConfig(**sizes, context=values["context"], buckets=values["buckets"], later=later)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Block(nn.Module):
    """x + conv(relu(film(conv(x))))."""

    def __init__(self, width: int, skills: int, context: int) -> None:
        super().__init__()
        self.first = Kernels(width, width, 3, skills)
        self.second = Kernels(width, width, 3, skills)
        self.film = nn.Linear(context, 2 * width) if context else None
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, context: Tensor, shares: Tensor) -> Tensor:
        # In place wherever autograd allows it: at full size new memory costs as much as arithmetic.
        if self.film is None:
            hidden = self.first(x, shares)
        else:
            scale, shift = self.film(context).chunk(2, 1)
            hidden = self.first(x, shares, 1 + scale, shift)
        return self.second(functional.relu_(hidden), shares).add_(x)


class _Stage(nn.ModuleList):
    """Residual blocks one after another; at full width the context enters only the first."""

    def __init__(self, width: int, count: int, skills: int, context: int, every: bool) -> None:
        super().__init__(
            _Block(width, skills, context if every or index == 0 else 0) for index in range(count)
        )

    def forward(self, x: Tensor, context: Tensor, shares: Tensor) -> Tensor:
        for block in self:
            x = block(x, context, shares)
        return x


class _Skills(nn.Module):
    """Which mixture of kernels each level works with, from the photo's spectrum and what is wanted."""

    def __init__(self, counts: tuple[int, int, int], context: int) -> None:
        super().__init__()
        self.counts = counts
        self.read = nn.Sequential(
            nn.Linear(SPECTRUM, context), nn.SiLU(), nn.Linear(context, context), nn.SiLU()
        )
        self.wish = nn.Linear(context, context)
        self.choose = nn.Linear(context, sum(counts))
        nn.init.zeros_(self.wish.weight)
        nn.init.zeros_(self.wish.bias)

    def forward(self, spectrum: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Shares `[B, count]` of each level, which add up to 1."""
        told = self.choose(self.read(as_evidence(spectrum)) + self.wish(context))
        return tuple(part.softmax(1) for part in told.split(self.counts, 1))


class _Scene(nn.Module):
    """What the whole photo looks like: `[B, width]` from its thumbnail."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 96, 3, stride=2, padding=1),
            nn.SiLU(),
        )
        self.levels = 9
        self.mix = nn.Sequential(
            nn.Linear(2 * 96 + 6 * self.levels, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, thumbnail: Tensor) -> Tensor:
        # Logarithms, because a dark photo's brightness differs by factors, and quantiles, because exposure
        # is judged by how the histogram lies.
        both = torch.cat((thumbnail, torch.log(thumbnail + 0.01) / 4), 1)
        features = self.layers(both)
        shares = torch.linspace(0, 1, self.levels, device=thumbnail.device)
        quantiles = torch.quantile(both.flatten(2), shares, dim=2).permute(1, 2, 0).flatten(1)
        return self.mix(torch.cat((features.mean((2, 3)), features.amax((2, 3)), quantiles), 1))


class Tiny(nn.Module):
    """The network. All methods take and give pixels in [0, 1] (results may overshoot slightly)."""

    def __init__(self, config: TinyConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TinyConfig()
        top, middle, bottom = config.widths
        before, between, deepest = config.blocks
        context = config.context
        self.scene = _Scene(context)
        self.words = WordEncoder(config.buckets, context)
        self.time = nn.Sequential(nn.Linear(1, context), nn.SiLU(), nn.Linear(context, context))
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(context, context), nn.SiLU())
        self.tone = nn.Linear(context, 9)
        nn.init.zeros_(self.tone.weight)
        nn.init.zeros_(self.tone.bias)
        fine, coarse, deep = config.skills
        self.skills = _Skills(config.skills, context) if max(config.skills) > 1 else None
        self.enter = Kernels(4 * 9, top, 3, fine)
        self.encode_top = _Stage(top, before, fine, context, every=False)
        self.down_top = Kernels(top, middle, 2, fine, stride=2)
        self.encode_middle = _Stage(middle, between, coarse, context, every=True)
        self.down_middle = Kernels(middle, bottom, 2, coarse, stride=2)
        self.bottom = _Stage(bottom, deepest, deep, context, every=True)
        self.up_middle = Kernels(bottom, 4 * middle, 1, coarse)
        self.decode_middle = _Stage(middle, between, coarse, context, every=True)
        self.up_top = Kernels(middle, 4 * top, 1, fine)
        self.decode_top = _Stage(top, before, fine, context, every=False)
        self.leave = Kernels(top, 4 * 3, 3, fine)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def trunk(self) -> list[nn.Module]:
        """The convolutional part, whose cost grows with the photo; the rest costs the same for any size."""
        names = ("enter", "encode_top", "down_top", "encode_middle", "down_middle", "bottom")
        return [
            getattr(self, name)
            for name in (*names, "up_middle", "decode_middle", "up_top", "decode_top", "leave")
        ]

    def context(self, thumbnail: Tensor, prompts: list[str | None]) -> Tensor:
        """What holds for the whole photo at every tau, `[B, context]`, from its thumbnail and the prompts.

        Args:
            thumbnail: the degraded photo averaged to `[B, 3, 32, 32]`.
            prompts: one a photo, None for "restore everything".
        """
        return self.scene(thumbnail) + self.words(prompts)

    def toned(self, degraded: Tensor, context: Tensor) -> Tensor:
        """The degraded photo through the tone curve `g u / (1 + s u)`, `u = y - b`, of its context."""
        gain, black, knee = self.tone(context)[:, :, None, None].chunk(3, 1)
        lifted = degraded - 0.5 * torch.tanh(black)
        knee = torch.where(knee > 0, knee, 0.5 * torch.tanh(knee))
        return torch.exp(gain.clamp(-3, 3)) * lifted / (1 + knee * lifted.clamp_min(0))

    def shares(self, context: Tensor, spectrum: Tensor) -> tuple[Tensor, ...]:
        """How much of each kernel the layers at 1/2, 1/4 and 1/8 work with, `[B, count]` each, adding up to 1.

        Args:
            context: from `context()`.
            spectrum: of the whole degraded photo, from `spectrum_of()`.
        """
        if self.skills is None:
            return (context.new_ones(1, 1),) * 3
        return self.skills(spectrum, context.float())

    def forward(
        self,
        x: Tensor,
        tau: Tensor,
        degraded: Tensor,
        context: Tensor,
        spectrum: Tensor,
        margins: Margins = NO_MARGINS,
    ) -> Tensor:
        """The predicted clean photo.

        Args:
            x: the state at `tau`, `[B, 3, H, W]`, H and W multiples of 8.
            tau: restoration time `[B]` in [0, 1).
            degraded: the photo as it came, the size of `x`.
            context: from `context()`.
            spectrum: of the whole degraded photo, from `spectrum_of()`.
            margins: pixels at each side that are there to be looked at only, multiples of 8. What is answered there
                means nothing, and the ways up don't waste their time on it.

        Returns:
            `[B, 3, H, W]` in float32.
        """
        with torch.autocast(x.device.type, enabled=False):
            whole = self.mix(context.float() + self.time(tau[:, None].float()))
            fine, coarse, deep = self.shares(context, spectrum)
            estimate, top = self._entrance(x, tau[:, None, None, None], degraded, whole)
            whole = whole.to(top.dtype)
        wide, narrow = (tuple(max(0, side - guard) for side in margins) for guard in self.config.guards)
        top = self.enter(top, fine)
        top = self.encode_top(top, whole, fine)
        middle = self.encode_middle(self.down_top(top, fine), whole, coarse)
        low = self.bottom(self.down_middle(middle, coarse), whole, deep)
        middle = _within(middle + functional.pixel_shuffle(self.up_middle(low, coarse), 2), wide, 4)
        middle = _within(self.decode_middle(middle, whole, coarse), _minus(narrow, wide), 4)
        top = _within(top, narrow, 2) + functional.pixel_shuffle(self.up_top(middle, fine), 2)
        top = self.decode_top(top, whole, fine)
        correction = functional.pixel_shuffle(self.leave(top, fine), 2)
        if self.config.later != 1 and bool((tau > 0).any()):
            correction = correction * torch.where(tau > 0, self.config.later, 1.0)[:, None, None, None]
        _within(estimate, narrow, 1).add_(correction)
        return estimate

    def _entrance(self, x: Tensor, when: Tensor, degraded: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        """The estimate to correct, and what the trunk sees; a function of its own so that the rest is freed."""
        toned = self.toned(degraded.float(), whole)
        if bool((when == 0).all()):
            estimate = toned
        else:
            # On the straight path the state tells which answer led to it.
            earlier = degraded + (x - degraded) / when.clamp_min(1e-3)
            estimate = torch.where(when > 0, earlier, toned)
        dtype = self.enter.weight.dtype
        folded = [functional.pixel_unshuffle(part.to(dtype), 2) for part in (degraded, toned, estimate)]
        return estimate, torch.cat(folded, 1).contiguous(memory_format=torch.channels_last)


def _within(part: Tensor, margins: tuple[int, ...], fold: int) -> Tensor:
    """A view without the margins, which are given in pixels of the photo; `part` is `fold` times smaller."""
    top, left, bottom, right = (side // fold for side in margins)
    return part[:, :, top : part.shape[2] - bottom, left : part.shape[3] - right]


def _minus(margins: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(one - other for one, other in zip(margins, others, strict=True))


def thumbnail_of(degraded: Tensor) -> Tensor:
    """The thumbnail the context is made from: area averages, `[B, 3, 32, 32]`."""
    return functional.interpolate(degraded, (THUMBNAIL, THUMBNAIL), mode="area")
