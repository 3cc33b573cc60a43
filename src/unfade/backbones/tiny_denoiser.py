"""`tiny` behind the denoiser contract: any size, any supported precision, finite or an error."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unfade.backbones.tiny import NO_MARGINS, SIZE_MULTIPLE, Margins, Tiny
from unfade.core import Condition, UnfadeError


@dataclass(frozen=True, slots=True)
class TinyCondition:
    """What `tiny` is told besides its state.

    Attributes:
        degraded: the photo (or the tile of it) as it came, `[B, 3, H, W]`.
        context: of the whole photo, `[B, C]`.
        spectrum: of the whole photo, `[B, S]`.
        halo: pixels of surroundings that windows are cut with, 0 where nothing of a window may be left out.
        margins: pixels at each side of the window that are its surroundings.
    """

    degraded: Tensor
    context: Tensor
    spectrum: Tensor
    halo: int = 0
    margins: Margins = NO_MARGINS

    def crop(self, top: int, left: int, height: int, width: int) -> "TinyCondition":
        # A side on which a whole halo lies within the canvas is surroundings; at the canvas's own edge there are none.
        bottom, right = self.degraded.shape[2] - top - height, self.degraded.shape[3] - left - width
        at_top, at_left, at_bottom, at_right = (
            self.halo if side else 0 for side in (top, left, bottom, right)
        )
        window = self.degraded[:, :, top : top + height, left : left + width]
        margins = (at_top, at_left, at_bottom, at_right)
        return TinyCondition(window, self.context, self.spectrum, self.halo, margins)


class TinyDenoiser:
    """Predicts the clean photo; pads to multiples of 8 inside and crops back."""

    def __init__(self, model: Tiny, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model.to(device)
        self.device = device
        self.dtype = dtype
        for part in model.trunk():
            part.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, x: Tensor, t: float, condition: Condition) -> Tensor:
        """The prediction for `x` `[B, 3, H, W]` at restoration time `t`, in [0, 1], on the device of `x`.

        Raises:
            UnfadeError: the network answered with something that isn't a number.
        """
        if not isinstance(condition, TinyCondition):
            raise TypeError(f"tiny needs a TinyCondition, not {type(condition).__name__}")
        height, width = x.shape[2:]
        right, bottom = -width % SIZE_MULTIPLE, -height % SIZE_MULTIPLE

        def padded(part: Tensor) -> Tensor:
            part = part.to(self.device)
            return functional.pad(part, (0, right, 0, bottom), mode="replicate") if right or bottom else part

        degraded = padded(condition.degraded)
        state = degraded if x is condition.degraded else padded(x)
        tau = torch.full((x.shape[0],), t, device=self.device)
        with torch.inference_mode():
            told = condition.context, condition.spectrum.to(self.device)
            predicted = self.model(state, tau, degraded, *told, condition.margins)
            predicted = predicted[:, :, :height, :width].clamp_(0, 1)
            if not bool(torch.isfinite(predicted.sum())):
                raise UnfadeError("the network's answer is not a number; try --dtype fp32")
        return predicted.to(x.device)
