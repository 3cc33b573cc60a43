"""Shared by the tests of training: a few sequences of the example photos, and latents kept for a whole file."""

from pathlib import Path

import pytest
import torch

from unfade.degrade import SINGLE
from unfade.training.photos import Photos, load_photos
from unfade.training.sequences import PhotoSequences


@pytest.fixture(scope="module")
def sequences(examples: Path) -> PhotoSequences:
    photos = load_photos([examples])
    few = Photos(*(column[:2] if i else column for i, column in enumerate(_columns(photos))))
    return PhotoSequences(few, {"noise": SINGLE["gaussian-noise"], "dark": SINGLE["lowlight"]})


def _columns(photos: Photos) -> list[torch.Tensor]:
    return [photos.pixels, photos.starts, photos.heights, photos.widths, photos.thumbnails]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latents")
