"""Where the pixels at hand lie in their photo, so that windows and thumbnails meet the same physics."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class View:
    """A window of each photo of a batch, in photo pixels.

    A training crop, a whole photo and its thumbnail are three views of one photo: a haze drawn for the photo
    looks the same in all of them, and a blur of ten pixels vanishes in the thumbnail.

    Attributes:
        top, left, height, width: the window, float tensors `[B]` in photo pixels.
        photo_height, photo_width: the photo, float tensors `[B]`.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    photo_height: Tensor
    photo_width: Tensor

    @staticmethod
    def whole(x: Tensor) -> "View":
        """`x` `[B, C, H, W]` is the photo itself."""
        batch, _, height, width = x.shape
        zero = torch.zeros(batch, device=x.device)
        return View(zero, zero, zero + height, zero + width, zero + height, zero + width)

    def pitch(self, x: Tensor) -> Tensor:
        """Photo pixels per pixel of `x`, `[B]`: 1 for a crop, above 1 for a thumbnail."""
        return torch.sqrt(self.height * self.width / (x.shape[2] * x.shape[3]))

    def is_reduced(self, x: Tensor) -> bool:
        """Whether `x` is a reduced copy, in which what happens between neighbouring pixels averages out."""
        return bool((self.pitch(x) > 1.5).any())

    def grid(self, x: Tensor) -> Tensor:
        """Photo coordinates of the pixels of `x`: `[B, H, W, 2]` as (across, down), -1 to 1 over the photo."""
        rows = (torch.arange(x.shape[2], device=x.device) + 0.5) / x.shape[2]
        columns = (torch.arange(x.shape[3], device=x.device) + 0.5) / x.shape[3]
        down = (self.top[:, None] + rows * self.height[:, None]) / self.photo_height[:, None] * 2 - 1
        across = (self.left[:, None] + columns * self.width[:, None]) / self.photo_width[:, None] * 2 - 1
        shape = (x.shape[0], x.shape[2], x.shape[3])
        return torch.stack((across[:, None, :].expand(shape), down[:, :, None].expand(shape)), dim=-1)
