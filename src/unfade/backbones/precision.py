"""In which precision new weights are made, and convolutions computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """While it lasts, parameters are made in this precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def true_fp32() -> Iterator[None]:
    """While it lasts, convolutions in fp32 are that; by default cuDNN rounds what goes into them to TF32 (10 bits)."""
    # Since 2.9 PyTorch has a switch for convolutions alone, and where that was used the older one can't be read.
    cudnn: Any = torch.backends.cudnn
    newer = hasattr(cudnn, "conv")
    switch, name, off = (cudnn.conv, "fp32_precision", "ieee") if newer else (cudnn, "allow_tf32", False)
    before = getattr(switch, name)
    setattr(switch, name, off)
    try:
        yield
    finally:
        setattr(switch, name, before)
