"""The real command with the shipped model or, where there is none yet, an untrained one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.forked import Command

from unfade.backbones.catalog import CATALOG
from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.tiny_weights import save_tiny
from unfade.core import Clip, generator
from unfade.media.images import write_image

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a run of the command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What to pass to -n."""
    shipped = ROOT / "src/unfade/backbones" / CATALOG["tiny"].weights
    if shipped.exists():
        return "tiny"
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    torch.manual_seed(0)
    network = Tiny(TinyConfig(widths=(8, 8, 8), blocks=(1, 1, 1), context=16, buckets=64))
    save_tiny(network, network.state_dict(), path, {})
    return str(path)


@pytest.fixture
def unfade(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command in this process."""

    def run(*arguments: object) -> Ended:
        from unfade.cli import main

        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture
def restore(unfade: Callable[..., Ended], model: str) -> Callable[..., Ended]:
    """Runs `unfade restore` with the model at hand."""
    return lambda *arguments: unfade("restore", "-n", model, *arguments)


@pytest.fixture
def start(model: str, forkserver: object) -> Callable[..., Command]:
    """Starts `unfade restore` as a process of its own."""
    return partial(Command, "restore", "-n", model)


@pytest.fixture
def make_photo() -> Callable[..., Path]:
    """Writes a small photo of smooth colours: `make_photo(path, height, width)`."""

    def make(path: Path, height: int = 48, width: int = 64) -> Path:
        coarse = torch.rand((1, 3, 4, 5), generator=generator(7, path.name))
        image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
        write_image(Clip.of(image), path)
        return path

    return make


def visible(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def contents() -> Callable[[Path], list[str]]:
    """Everything below a folder, hidden files included."""
    return visible
