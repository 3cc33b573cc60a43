"""Photos the degradations are tried on."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.degrade.resample import resize
from unfade.media.images import read_image

_EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """A whole photo at half size, `[1, 3, 150, 225]` in [0, 1]."""
    return resize(read_image(_EXAMPLES / "chelsea.png").frames, 150, 225).clamp(0, 1)


@pytest.fixture(scope="session")
def crops() -> Tensor:
    """Two detailed crops of odd sides, `[2, 3, 67, 81]`."""
    frames = [read_image(_EXAMPLES / name).frames for name in ("astronaut.png", "coffee.png")]
    return torch.cat([frame[:, :, 150:217, 180:261] for frame in frames])
