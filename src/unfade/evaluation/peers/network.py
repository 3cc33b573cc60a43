"""Other people's networks behind the `Restorer` contract: whatever spandrel recognises in a safetensors file."""

import copy
import hashlib
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.core import Clip, ModelError, Plan, Restoration, UsageError
from unfade.core.contracts import Device, Dtype, Progress
from unfade.diffusion.tiled import tiles_along
from unfade.evaluation.peers.framewise import PLAN, framewise

_WHOLE = 2**20
_TILE = 512
_GRID = 64


class NetworkPeer:
    """A network with the weights of a user's file, run as its authors do: 8 bits in, 8 bits out, fp32 unless asked.

    A photo of up to 2^20 pixels goes through whole, a larger one in tiles of 512 that see 64 pixels and more around
    them, unless the network is described as unfit for tiles; the plan's `tile` overrides that. Sides are padded to
    what the network needs and cropped again. A network for grey pictures is given the three channels one by one.

    Attributes:
        path: the weights' file.
        sha256: of the file.
        scale: the network's own enlargement.
        label: architecture, purpose and scale.
        reader: what recognised it, with its version.
    """

    def __init__(self, path: Path, descriptor: Any, sha256: str, reader: str) -> None:
        self.path = path
        self.sha256 = sha256
        self.reader = reader
        self.scale: int = descriptor.scale
        self.label = _label(descriptor)
        self._descriptor = descriptor
        self._bf16: Any = None

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The clip frame by frame; a network that does not enlarge is given the bicubically enlarged clip.

        Raises:
            UsageError: the network enlarges by another factor than the plan asks for, or the device or precision can't
                be had.
            ModelError: it gives back something that is no picture of the right size.
        """
        if self.scale not in (1, plan.scale):
            raise UsageError(
                f"{self.path.name} enlarges {self.scale} times, so it does not apply where {plan.scale} is asked for; "
                f"compare it on a benchmark of x{self.scale}"
            )
        device, dtype = _device(plan.device), self._dtype(plan.dtype)
        model = self._model(device, dtype)
        height, width = clip.height, clip.width
        if self.scale == 1:
            height, width = height * plan.scale, width * plan.scale
        tile = self._tile(height, width, plan)

        def apply(pixels: Any) -> Any:
            frame = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device, dtype) / 255
            parts = frame.split(model.input_channels, 1)
            restored = torch.cat([self._tiled(model, part, tile) for part in parts], 1)
            if not bool(restored.isfinite().all()):
                raise ModelError(
                    f"{self.path.name} in {plan.dtype} gives values that are not numbers; try fp32"
                )
            return restored[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

        provenance = {
            "model": self.path.stem,
            "architecture": self.label,
            "reader": self.reader,
            "weights": self.sha256,
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
            "tile": str(tile) if tile < max(height, width) else "none",
        }
        return framewise(provenance, clip, plan, progress, apply, enlarges=self.scale > 1)

    def _dtype(self, wanted: Dtype) -> torch.dtype:
        if wanted != "bf16":
            return torch.float32
        if not self._descriptor.supports_bfloat16:
            raise UsageError(f"{self.path.name} ({self.label}) does not work in bf16; ask for fp32")
        return torch.bfloat16

    def _model(self, device: torch.device, dtype: torch.dtype) -> Any:
        if dtype == torch.float32:
            return self._descriptor.to(device=device).eval()
        if self._bf16 is None:  # A copy: there is no way back from bf16 to the exact weights.
            self._bf16 = copy.deepcopy(self._descriptor)
        return self._bf16.to(device=device, dtype=dtype).eval()

    def _tile(self, height: int, width: int, plan: Plan) -> int:
        whole = max(height, width)
        if plan.tile == 0 or self._descriptor.tiling.name == "INTERNAL":
            return whole
        if plan.tile == "auto":
            return whole if height * width <= _WHOLE else _TILE
        return plan.tile

    def _tiled(self, model: Any, frame: Tensor, tile: int) -> Tensor:
        """`[1, C, H, W]` through the network, tile by tile, as float32 in [0, 1] on the CPU."""
        grid = math.lcm(_GRID, model.size_requirements.multiple_of)
        scale = self.scale
        rows, columns = (tiles_along(side, tile, grid, grid) for side in frame.shape[2:])
        canvas = torch.empty(1, frame.shape[1], frame.shape[2] * scale, frame.shape[3] * scale)
        for row in rows:
            for column in columns:
                window = frame[:, :, row.outer_start : row.outer_stop, column.outer_start : column.outer_stop]
                part = model(window)
                expected = (1, frame.shape[1], window.shape[2] * scale, window.shape[3] * scale)
                if tuple(part.shape) != expected:
                    raise ModelError(
                        f"{self.path.name} gives back {tuple(part.shape)} for {tuple(window.shape)}, not {expected}"
                    )
                top, left = (row.start - row.outer_start) * scale, (column.start - column.outer_start) * scale
                high, wide = (row.stop - row.start) * scale, (column.stop - column.start) * scale
                canvas[
                    :, :, row.start * scale : row.stop * scale, column.start * scale : column.stop * scale
                ] = part[:, :, top : top + high, left : left + wide].float().cpu()
        return canvas


def load_network(path: Path) -> NetworkPeer:
    """The network of a `.safetensors` file.

    Architectures of `spandrel_extra_arches` (Restormer and others under licences of their own) are known where that
    package is installed.

    Raises:
        ModelError: the file is missing, a pickle or damaged, the architecture is unknown or not one from picture to
            picture, or spandrel can't be imported.
    """
    if not path.is_file():
        raise ModelError(f"no network at {path}; name a .safetensors file")
    if path.suffix.lower() != ".safetensors":
        raise ModelError(
            f"{path} is not a .safetensors file, and pickles are never opened; where you trust it, convert it by: "
            "state = spandrel.ModelLoader().load_state_dict_from_file(path); safetensors.torch.save_file("
            "{key: value.contiguous() for key, value in state.items()}, new_path)"
        )
    spandrel = _spandrel()
    reader = f"spandrel {spandrel.__version__}"
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_file(path)
    except spandrel.UnsupportedModelError as error:
        raise ModelError(
            f"{path} holds no network that {reader} knows; some more are in pip install spandrel_extra_arches"
        ) from error
    except Exception as error:  # It guesses the architecture from the keys: anything may go wrong.
        raise ModelError(
            f"{path} is damaged or not quite the network {reader} takes it for ({type(error).__name__}); get it again"
        ) from error
    channels = (descriptor.input_channels, descriptor.output_channels)
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or channels not in ((1, 1), (3, 3)):
        raise ModelError(
            f"{path} is a {descriptor.architecture.name} ({descriptor.purpose}, {channels[0]} to {channels[1]} "
            "channels); only networks from picture to picture can be compared"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return NetworkPeer(path, descriptor, sha256, reader)


def _label(descriptor: Any) -> str:
    architecture = descriptor.architecture
    label = " ".join((architecture.name, *descriptor.tags, f"({descriptor.purpose}, x{descriptor.scale})"))
    # spandrel feeds these two a constant map of the noise level, whatever the noise.
    if architecture.id == "DRUNet" or "FDnCNN" in descriptor.tags:
        label += ", noise level 15 assumed"
    return label


def _spandrel() -> Any:
    try:
        spandrel = import_module("spandrel")
    except (ImportError, RuntimeError) as error:  # A torchvision built for another PyTorch is a RuntimeError.
        raise ModelError(
            "networks of others are read by spandrel, which needs torchvision, and importing it failed here "
            f'({error}); pip install ".[spandrel]" in the clone of unfade, and the torchvision made for PyTorch '
            f"{torch.__version__}"
        ) from error
    try:
        import_module("spandrel_extra_arches").install(ignore_duplicates=True)
    except ImportError:
        pass
    return spandrel


def _device(wanted: Device) -> torch.device:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, here in there.items() if here))
    if not there[wanted]:
        raise UsageError(f"this machine has no {wanted} device that PyTorch can use")
    return torch.device(wanted)
