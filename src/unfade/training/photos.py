"""Clean photos in memory: one flat array of bytes, from folders or from a packed file."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from unfade.backbones.tiny import THUMBNAIL
from unfade.core import InputError
from unfade.media.atomic import atomic_output

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}
_KIND = "unfade photos 1"


@dataclass(frozen=True, slots=True)
class Photos:
    """Photos of any sizes.

    Attributes:
        pixels: all photos' bytes one after another, uint8, each `[3, H, W]` flattened.
        starts: `[N]` where each begins.
        heights, widths: `[N]`.
        thumbnails: `[N, 3, 32, 32]` in [0, 1].
    """

    pixels: Tensor
    starts: Tensor
    heights: Tensor
    widths: Tensor
    thumbnails: Tensor

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Tensor:
        """Photo `index`, uint8 `[3, H, W]`, a view."""
        start, height, width = (int(column[index]) for column in (self.starts, self.heights, self.widths))
        return self.pixels[start : start + 3 * height * width].reshape(3, height, width)

    def subset(self, indices: Sequence[int]) -> "Photos":
        """The chosen photos only; shares the bytes."""
        chosen = torch.tensor(indices)
        return Photos(
            self.pixels,
            self.starts[chosen],
            self.heights[chosen],
            self.widths[chosen],
            self.thumbnails[chosen],
        )

    def split(self, held_out: int) -> tuple["Photos", "Photos"]:
        """(training, validation) with every n-th photo held out, the same ones every time.

        Raises:
            InputError: not enough photos.
        """
        if not 0 < held_out < len(self):
            raise InputError(
                f"{len(self)} photos are too few to hold {held_out} out for validation; give more"
            )
        kept = {round((index + 0.5) * len(self) / held_out - 0.5) for index in range(held_out)}
        return self.subset([i for i in range(len(self)) if i not in kept]), self.subset(sorted(kept))


def _gather(images: Iterable[Tensor]) -> Photos:
    flat: list[Tensor] = []
    sizes: list[tuple[int, int]] = []
    thumbnails: list[Tensor] = []
    for image in images:
        flat.append(image.reshape(-1))
        sizes.append((image.shape[1], image.shape[2]))
        thumbnails.append(functional.interpolate(image[None] / 255, (THUMBNAIL, THUMBNAIL), mode="area")[0])
    heights, widths = (torch.tensor(column) for column in zip(*sizes, strict=True))
    counts = heights * widths * 3
    return Photos(torch.cat(flat), counts.cumsum(0) - counts, heights, widths, torch.stack(thumbnails))


def _decode(data: bytes) -> Tensor:
    """uint8 `[3, H, W]`, by pyvips where it is installed and by Pillow on a bare PyTorch machine."""
    try:
        import pyvips
    except ImportError:
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(data)) as opened:
            return torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1).contiguous()
    image = pyvips.Image.new_from_buffer(data, "").autorot().colourspace("srgb")
    if image.bands > 3:
        image = image[0:3]
    return torch.from_numpy(image.cast("uchar").numpy()).permute(2, 0, 1).contiguous()


def _files(folders: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder of photos")
        files += sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    return files


def load_photos(folders: Iterable[Path], smallest: int = 96) -> Photos:
    """Every photo below the folders, in name order, as sRGB bytes; those with a side under `smallest` are left out.

    A single file made by `pack` is read as such.

    Raises:
        InputError: a folder is missing, a photo can't be decoded, or nothing is left.
    """
    folders = list(folders)
    if len(folders) == 1 and folders[0].is_file():
        encoded = _unpack(folders[0])
    else:
        encoded = [(str(path), path.read_bytes()) for path in _files(folders)]

    def decoded() -> Iterable[Tensor]:
        for name, data in encoded:
            try:
                image = _decode(data)
            except Exception as error:
                raise InputError(f"{name} can't be decoded as a photo; take it out of the folder") from error
            if min(image.shape[1:]) >= smallest:
                yield image

    images = list(decoded())
    if not images:
        raise InputError(f"no photo of at least {smallest} pixels a side in {', '.join(map(str, folders))}")
    return _gather(images)


def pack(folders: Iterable[Path], target: Path, limit: int = 50 * 2**20) -> int:
    """The photos' own files (still compressed) in one file of at most `limit` bytes, to carry to another machine.

    Where they don't all fit, evenly spaced ones are taken. Returns how many.
    """
    files = _files(folders)
    total = sum(path.stat().st_size + 64 for path in files)
    share = min(1.0, (limit - 4096) / max(1, total))
    chosen = [path for index, path in enumerate(files) if int((index + 1) * share) > int(index * share)]
    payload = [path.read_bytes() for path in chosen]
    with atomic_output(target) as temporary:
        torch.save({"kind": _KIND, "sizes": [len(d) for d in payload], "data": b"".join(payload)}, temporary)
    return len(chosen)


def _unpack(path: Path) -> list[tuple[str, bytes]]:
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path} is not a packed set of photos; make one with python -m unfade.recipes.tiny_gpu --pack"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise InputError(
            f"{path} is not a packed set of photos; make one with python -m unfade.recipes.tiny_gpu --pack"
        )
    position = 0
    files: list[tuple[str, bytes]] = []
    for index, size in enumerate(content["sizes"]):
        files.append((f"{path}, photo {index}", content["data"][position : position + size]))
        position += size
    return files
