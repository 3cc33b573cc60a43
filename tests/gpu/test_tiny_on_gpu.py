"""The same answers on a GPU: network, degradations, training. Run with `pytest -m gpu`."""

from pathlib import Path

import pytest
import torch

from unfade import load
from unfade.core import Clip
from unfade.degrade import FOUNDIR, draw_composition
from unfade.media.images import read_image
from unfade.recipes.run_tiny import run_tiny

pytestmark = pytest.mark.gpu


def test_a_photo_is_restored_alike(examples: Path) -> None:
    clip = read_image(examples / "coffee.png")
    restorer = load("tiny")
    on_cpu = restorer.restore(clip, device="cpu", dtype="fp32").result.frames
    on_gpu = restorer.restore(clip, device="cuda", dtype="fp32").result.frames
    assert float((on_cpu - on_gpu).abs().max()) < 2 / 255


def test_bf16_on_the_gpu_stays_close(examples: Path) -> None:
    clip = Clip(read_image(examples / "coffee.png").frames)
    restorer = load("tiny")
    exact = restorer.restore(clip, device="cuda", dtype="fp32").result.frames
    quick = restorer.restore(clip, device="cuda", dtype="bf16").result.frames
    assert float((exact - quick).abs().mean()) < 1 / 255


def test_footage_is_restored_alike(examples: Path) -> None:
    photo = read_image(examples / "coffee.png").frames[0]
    frames = [photo[:, shift : shift + 96, 2 * shift : 2 * shift + 131] for shift in range(5)]
    restorer = load("tiny")
    ways = [list(restorer.restore_stream(frames, device=device, dtype="fp32")) for device in ("cpu", "cuda")]
    for one, other in zip(*ways, strict=True):
        assert float((one - other).abs().max()) < 2 / 255


@pytest.mark.parametrize("name", list(FOUNDIR))
def test_degradations_run_on_the_gpu(name: str) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.rand(2, 3, 64, 64, device="cuda")
    drawn = draw_composition(FOUNDIR[name], generator, (2, 64, 64), codec="torch")
    worse = drawn(x, 1.0)
    assert worse.device.type == "cuda"
    assert torch.isfinite(worse).all()
    assert torch.equal(drawn(x, 0.0), x)


def test_the_smoke_recipe_trains_on_the_gpu(examples: Path, tmp_path: Path) -> None:
    assert run_tiny([examples], tmp_path, recipe="smoke", device="cuda").is_file()
