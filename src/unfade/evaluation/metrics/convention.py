"""The conventions by which published tables count PSNR and SSIM, as data."""

from dataclasses import dataclass
from typing import Literal

PsnrPlanes = Literal["rgb", "y", "channels"]
SsimPlanes = Literal["rgb", "y", "yiq"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How two pictures are compared.

    Attributes:
        name: stands in tables and as the prefix of metric names.
        psnr: "rgb" pools the squared error over all pixels and channels; "channels" is the mean of three PSNRs,
            one a channel (never below the pooled one); "y" is BT.601 luma in its studio range 16 to 235, not rounded.
        ssim: "rgb" is the mean of the three channels' SSIM; "y" as above; "yiq" is full-range luma
            (0.299, 0.587, 0.114) on 0 to 255, rounded.
        epsilon: added to the mean squared error at peak 1 (1e-8 limits PSNR to 80 dB).
        clamped: whether SSIM's contrast-structure term is held at 0 or above.
        window, sigma: side of SSIM's Gaussian window, odd, and its standard deviation, in pixels.
        border: pixels left out on every side; "scale" is the enlargement factor.
        source: where the convention comes from.
    """

    name: str
    psnr: PsnrPlanes
    ssim: SsimPlanes
    epsilon: float = 0.0
    clamped: bool = False
    window: int = 11
    sigma: float = 1.5
    border: int | Literal["scale"] = 0
    source: str = ""

    def describe(self) -> str:
        """One line for a report."""
        planes = {
            "rgb": "RGB, error pooled",
            "channels": "mean of three channels' PSNR",
            "y": "luma BT.601, 16 to 235",
        }
        windows = {"rgb": "mean of three channels", "y": "luma BT.601", "yiq": "YIQ luma, rounded"}
        cut = {0: "no border"}.get(self.border, f"border {self.border} cropped")  # type: ignore[arg-type]
        extra = (f", epsilon {self.epsilon:g}" if self.epsilon else "") + (
            ", clamped" if self.clamped else ""
        )
        window = f"Gaussian {self.window}, sigma {self.sigma:g}"
        return f"PSNR on {planes[self.psnr]}; SSIM ({window}) on {windows[self.ssim]}; {cut}{extra}"


RGB = Convention(name="rgb", psnr="rgb", ssim="rgb", source="the usual one of colour denoising")
Y = Convention(name="y", psnr="y", ssim="y", border="scale", source="the usual one of super-resolution")
FOUNDIR = Convention(
    name="foundir", psnr="rgb", ssim="yiq", epsilon=1e-8, clamped=True, source="FoundIR's script (pyiqa)"
)
VBRIDGE_RGB = Convention(name="vbridge-rgb", psnr="channels", ssim="rgb", source="V-Bridge's script")
VBRIDGE_Y = Convention(name="vbridge-y", psnr="y", ssim="y", source="V-Bridge's script")
