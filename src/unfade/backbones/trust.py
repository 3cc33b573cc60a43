"""How far an answer of `tiny` may be followed: one share of the way for a whole photo.

From the degraded photo to the answer a straight line leads past its nearest point to the truth whenever the
answer is bolder than what could be known (how bright was the scene?). `Trust` looks at the answer as a whole and
says how much of that way is gained with near certainty. It sees no pixels, only how much energy photo and change
have in each octave of detail and how they go together: noise is taken away where there was detail, blur is
answered by more of it, darkness by a change without any.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from unfade.backbones.tiny_denoiser import TinyCondition
from unfade.core import Condition, Denoiser

OCTAVES = 6
EVIDENCE = 3 * OCTAVES + 6
# Rows looked at together, so that a large photo's squares and halves take little room. A multiple of 2^OCTAVES.
_ROWS = 512
LARGEST = 1.5
# Change of a photo's mean level from which on an answer is one about its light.
_BRIGHTER = 0.02


def evidence_of(degraded: Tensor, predicted: Tensor) -> Tensor:
    """What is told of an answer, `[B, 24]`.

    For each octave of detail (differences between averages over 2^k and 2^(k+1) pixels, k = 0 to 5): the logarithm
    of the photo's energy and of the change's, and their correlation. Then the means of the photo and of the change
    in each colour. Energies of successive averages differ by exactly the energy of the detail between them (Haar 1910).

    Args:
        degraded, predicted: `[B, 3, H, W]` in [0, 1].
    """
    sums = torch.zeros(len(degraded), OCTAVES, 3, dtype=torch.float64)
    pixels = torch.zeros(OCTAVES, 1, dtype=torch.float64)
    for top in range(0, degraded.shape[2], _ROWS):
        photo = degraded[:, :, top : top + _ROWS].float()
        change = predicted[:, :, top : top + _ROWS].float() - photo
        for octave in range(OCTAVES):
            photo, change = _even(photo), _even(change)
            if not photo.numel():
                break
            pixels[octave] += photo[0].numel()
            sums[:, octave] += _energies(photo, change)
            photo, change = functional.avg_pool2d(photo, 2), functional.avg_pool2d(change, 2)
            sums[:, octave] -= 4 * _energies(photo, change)
    detail = (sums / pixels.clamp_min(1)).float()
    photo, change = (detail[:, :, column].clamp_min(1e-8) for column in (0, 1))
    together = detail[:, :, 2] / torch.sqrt(photo * change)
    means = [part.mean((2, 3)).float().cpu() for part in (degraded, predicted)]
    change_means = means[1] - means[0]
    return torch.cat((torch.log(photo), torch.log(change), together.clamp(-1, 1), means[0], change_means), 1)


def _even(part: Tensor) -> Tensor:
    """All of it but a last odd row and column, which have no partner."""
    height, width = part.shape[2:]
    return part[:, :, : height // 2 * 2, : width // 2 * 2]


def _energies(photo: Tensor, change: Tensor) -> Tensor:
    """Of the photo, of the change and of both together, `[B, 3]`."""
    pairs = ((photo, photo), (change, change), (photo, change))
    return torch.stack(
        [torch.linalg.vecdot(one.flatten(1), other.flatten(1)).double().cpu() for one, other in pairs], 1
    )


class Trust(nn.Module):
    """The share of the way from the degraded photo to the answer that is to be gone.

    Args:
        width: of the hidden layers.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(EVIDENCE, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 1),
        )
        self.register_buffer("mean", torch.zeros(EVIDENCE))
        self.register_buffer("scale", torch.ones(EVIDENCE))
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.log(1 / (LARGEST - 1)))

    def forward(self, evidence: Tensor) -> Tensor:
        """`[B]` in (0, 1.5), 1 before any training, for what `evidence_of` tells."""
        seen = (evidence - self.mean) / self.scale  # type: ignore[operator]
        return LARGEST * torch.sigmoid(self.layers(seen.clamp(-5, 5)))[:, 0]


def _as_bright(evidence: Tensor, wanted: float, share: Tensor) -> Tensor:
    """The share of each way at which photos have a mean level, `[B]`; `share` where the way changes hardly any."""
    photo, change = (part.mean(1) for part in evidence[:, -6:].split(3, 1))
    led = (wanted - photo) / torch.where(change.abs() < _BRIGHTER, torch.ones_like(change), change)
    return torch.where(change.abs() < _BRIGHTER, share, led.clamp(0, LARGEST))


def trusting(
    denoiser: Denoiser,
    trust: Trust | None,
    strength: float = 1.0,
    steady: Callable[[Tensor], Tensor] = lambda evidence: evidence,
    brightness: float | None = None,
) -> Denoiser:
    """The same denoiser, followed as far as its answer at the start of a walk lets one trust it.

    Args:
        denoiser: answers for whole photos at a `TinyCondition`.
        trust: what judges its answer at time 0; all later answers of the walk are cut alike. None to follow all the
            way.
        strength: factor on the share of the way that is gone, as a user asks for.
        steady: what is made of the evidence first; for footage, an average over the shot.
        brightness: mean level of the result's pixels in [0, 1] that is wanted, where an answer leads there; its way is
            gone as far as that, whatever trust and strength say.
    """
    share = torch.full((1,), strength)

    def whole(x: Tensor, t: float, condition: Condition) -> Tensor:
        nonlocal share
        if not isinstance(condition, TinyCondition):
            raise TypeError(f"trust is put in tiny alone, not at a {type(condition).__name__}")
        with torch.inference_mode():
            degraded = condition.degraded
            # A state on the way was led there by answers that were cut; the network is shown where its own would have
            # led, or what it trusts little would be cut again at every step.
            uncut = (
                x if t == 0 else torch.lerp(degraded, x, 1 / share[:, None, None, None].clamp_min(0.01).to(x))
            )
            predicted = denoiser(uncut, t, condition)
            if t == 0 and (trust is not None or brightness is not None):
                evidence = steady(evidence_of(degraded, predicted))
                share = torch.full((len(x),), strength) if trust is None else strength * trust(evidence)
                if brightness is not None:
                    share = _as_bright(evidence, brightness, share)
            weight = share[:, None, None, None].to(predicted)
            return torch.lerp(degraded, predicted, weight, out=predicted).clamp_(0, 1)

    return whole
