"""Shared by all rooms: one thread (so that results repeat) and the folders that only some machines have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def examples() -> Path:
    """The example photos that ship with the project."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Benchmarks, training photos and clips, which aren't on a user's machine."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the benchmark and training photos are not on this machine")
    return folder


@pytest.fixture(scope="session")
def stock_pipeline() -> Callable[[Any], Any]:
    """diffusers' own image-to-video pipeline around the parts of a `Wan`, without its text encoder."""

    def build(wan: Any) -> Any:
        from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline

        stock = WanImageToVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=wan.vae.model,
            scheduler=UniPCMultistepScheduler.from_config(dict(wan.config.scheduler)),
            transformer=wan.denoiser.model,
            expand_timesteps=True,
        )
        stock.set_progress_bar_config(disable=True)
        return stock

    return build
