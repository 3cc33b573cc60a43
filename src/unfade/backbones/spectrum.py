"""What the damage of a whole photo looks like in the frequencies of its 8 by 8 blocks.

Noise lifts them all, blur and enlarging take the high ones away, motion those along its way, and JPEG, which works on
the same blocks, leaves many of them at nothing. So a few hundred averages tell which damage a photo has and how
strong it is; a thumbnail can't.
"""

import math

import torch
from torch import Tensor

BLOCK = 8
SPECTRUM = 4 * BLOCK**2
# Blocks that are looked at, at most; a larger photo is represented by evenly spread ones.
_MOST = 64**2
# Size below which a coefficient is taken to be nothing; rounding to 8 bits alone makes 0.3 / 255.
_NOTHING = 0.25 / 255


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal 8-point DCT-II matrix."""
    index = torch.arange(BLOCK, dtype=torch.float32, device=device)
    matrix = torch.cos((2 * index[None, :] + 1) * index[:, None] * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def spectrum_of(photo: Tensor) -> Tensor:
    """Averages over the photo's blocks, `[B, 256]`, that can themselves be averaged over frames of footage.

    For luma, then for the colour differences together: the energy of each of the 64 frequencies, and the logarithm of
    its size.

    Args:
        photo: `[B, 3, H, W]` in [0, 1]; blocks begin at its top left corner, as those of JPEG do.
    """
    photo = photo.float()
    rows, columns = photo.shape[2] // BLOCK, photo.shape[3] // BLOCK
    if not rows or not columns:
        bottom, right = max(0, BLOCK - photo.shape[2]), max(0, BLOCK - photo.shape[3])
        return spectrum_of(torch.nn.functional.pad(photo, (0, right, 0, bottom), mode="replicate"))
    step = math.ceil(math.sqrt(rows * columns / _MOST))
    blocks = photo[:, :, : rows * BLOCK, : columns * BLOCK].unflatten(3, (columns, BLOCK))
    blocks = blocks.unflatten(2, (rows, BLOCK))[:, :, ::step, :, ::step].transpose(3, 4)
    red, green, blue = blocks.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cosines = _cosines(photo.device)
    parts: list[Tensor] = []
    for planes in ((luma,), (blue - luma, red - luma)):
        coefficients = cosines @ torch.stack(planes, 1) @ cosines.T
        sizes = coefficients.flatten(1, 3).flatten(2)
        parts += [sizes.square().mean(1), torch.log(sizes.abs() + _NOTHING).mean(1)]
    return torch.cat(parts, 1)


def as_evidence(spectrum: Tensor) -> Tensor:
    """A spectrum for a network to look at: logarithms of everything, about -2 to 2."""
    luma, luma_log, colour, colour_log = spectrum.float().unflatten(1, (4, -1)).unbind(1)
    energies = [torch.log(part + _NOTHING**2) / 2 for part in (luma, colour)]
    return (torch.cat((energies[0], luma_log, energies[1], colour_log), 1) + 5) / 1.5
