"""Pictures as PNG in memory: 8 bits, no metadata, the same bytes for the same pixels."""

import numpy as np
import torch
from torch import Tensor

from unfade.core import InputError
from unfade.media.vips import FAILURES, pyvips


def png_bytes(picture: Tensor, compression: int = 6) -> bytes:
    """A picture as a PNG file's bytes.

    Args:
        picture: `[3, H, W]` in [0, 1]; rounded to 8 bits.
        compression: 0 to 9.
    """
    pixels = picture.detach().cpu().mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous()
    image = pyvips.Image.new_from_array(pixels.numpy(), interpretation="srgb")
    return bytes(image.pngsave_buffer(compression=compression))


def picture_of(data: bytes, name: str) -> Tensor:
    """The picture `[3, H, W]` in [0, 1] of a PNG file's bytes.

    Args:
        data: what `png_bytes` made.
        name: what to call it in a message.

    Raises:
        InputError: the bytes are damaged.
    """
    try:
        image = pyvips.Image.pngload_buffer(data, fail_on="error")
        pixels = np.frombuffer(bytes(image.write_to_memory()), np.uint8).reshape(
            image.height, image.width, image.bands
        )
    except (*FAILURES, ValueError) as error:
        raise InputError(f"{name} is damaged; build the set again") from error
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[:3].contiguous()
