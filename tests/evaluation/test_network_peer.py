"""Networks of others through the contract: spandrel's real classes with small random weights."""

import hashlib
import sys
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unfade.core import Clip, ModelError, Plan, UsageError, generator
from unfade.degrade.classic import quantise
from unfade.evaluation.peers import peer
from unfade.evaluation.peers.facts import Facts
from unfade.evaluation.peers.network import NetworkPeer, load_network
from unfade.media.resize import enlarge

# spandrel's own imports use what PyTorch deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.meshgrid.*:UserWarning"),
]

FP32 = Plan(device="cpu")
Network = Callable[[str], tuple[Path, nn.Module]]


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """Writes a small random network of a known architecture; gives its file and the network itself."""
    try:
        import_module("spandrel")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"spandrel can't be imported here ({error})")

    def write(name: str) -> tuple[Path, nn.Module]:
        torch.manual_seed(0)
        model = _architecture(name).eval()
        for parameter in model.parameters():  # Some start at zero, and so would do nothing.
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.5 / parameter[0].numel() ** 0.5)
        path = tmp_path / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
        return path, model

    return write


def _architecture(name: str) -> nn.Module:
    def of(module: str) -> Any:
        return getattr(import_module(f"spandrel.architectures.{module}"), module)

    match name:
        case "dncnn":
            return of("DnCNN")(in_nc=3, out_nc=3, nc=8, nb=8, act_mode="R")
        case "dncnn-grey":
            return of("DnCNN")(in_nc=1, out_nc=1, nc=8, nb=8, act_mode="R")
        case "nafnet":
            return of("NAFNet")(
                img_channel=3, width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]
            )
        case "drunet":
            return of("DRUNet")(in_nc=4, out_nc=3, nc=[8, 16, 16, 16], nb=2)
        case "compact-x2":
            return of("Compact")(num_feat=8, num_conv=2, upscale=2)
        case "swinir-x2":
            return of("SwinIR")(
                img_size=64,
                window_size=8,
                upscale=2,
                depths=[2],
                num_heads=[2],
                embed_dim=12,
                upsampler="pixelshuffledirect",
            )
    raise AssertionError(name)


def _clip(height: int = 40, width: int = 48) -> Clip:
    frames = quantise(torch.rand(2, 3, height, width, generator=generator(0, "network")))
    return Clip(frames, Fraction(25))


def _directly(model: nn.Module, frames: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([quantise(model(frame).clamp(0, 1)) for frame in frames.split(1)])


@pytest.mark.parametrize("name", ["dncnn", "nafnet"])
def test_a_restoring_network_gives_what_it_gives_by_itself(network: Network, name: str) -> None:
    path, model = network(name)
    clip = _clip()
    told: list[float] = []
    restoration = load_network(path).restore(clip, None, FP32, told.append)
    expected = _directly(model, clip.frames)
    assert torch.equal(restoration.result.frames, expected)
    assert (expected - clip.frames).abs().max() > 0.02
    assert torch.equal(restoration.trajectory[0].frames, clip.frames) and restoration.result.fps == 25
    assert told == [0.5, 1.0]


def test_an_enlarging_network_is_given_the_small_clip(network: Network) -> None:
    path, model = network("compact-x2")
    clip = _clip(13, 17)
    restorer = load_network(path)
    assert restorer.scale == 2 and "SR, x2" in restorer.label
    restoration = restorer.restore(clip, None, Plan(scale=2, device="cpu"))
    assert torch.equal(restoration.result.frames, _directly(model, clip.frames))
    assert torch.equal(restoration.trajectory[0].frames, enlarge(clip, 2).frames)


def test_a_network_that_does_not_enlarge_is_given_the_enlarged_clip(network: Network) -> None:
    path, model = network("dncnn")
    clip = _clip(13, 17)
    restored = load_network(path).restore(clip, None, Plan(scale=3, device="cpu")).result.frames
    assert torch.equal(restored, _directly(model, quantise(enlarge(clip, 3).frames)))


def test_a_network_of_another_scale_does_not_apply(network: Network) -> None:
    restorer = load_network(network("compact-x2")[0])
    for scale in (1, 4):
        with pytest.raises(UsageError, match=rf"enlarges 2 times.*{scale} is asked for"):
            restorer.restore(_clip(), None, Plan(scale=scale))


@pytest.mark.parametrize("name, multiple", [("drunet", 8), ("swinir-x2", 8)])
def test_sides_are_padded_to_what_the_network_needs_and_cropped(
    network: Network, name: str, multiple: int
) -> None:
    restorer = load_network(network(name)[0])
    plan = Plan(scale=restorer.scale, device="cpu")
    odd = _clip(37, 41)
    mirrored = nn.functional.pad(odd.frames, (0, -41 % multiple, 0, -37 % multiple), "reflect")
    whole = restorer.restore(Clip(mirrored), None, plan).result.frames
    restored = restorer.restore(odd, None, plan).result.frames
    assert restored.shape == (2, 3, 37 * restorer.scale, 41 * restorer.scale)
    assert torch.equal(restored, whole[:, :, : restored.shape[2], : restored.shape[3]])


def test_a_noise_level_that_is_assumed_is_said(network: Network) -> None:
    path, model = network("drunet")
    clip = _clip()
    assumed = torch.full((2, 1, 40, 48), 15 / 255)
    restorer = load_network(path)
    assert "noise level 15 assumed" in restorer.label
    expected = _directly(model, torch.cat([clip.frames, assumed], 1))
    assert torch.equal(restorer.restore(clip, None, FP32).result.frames, expected)
    assert "assumed" not in load_network(network("dncnn")[0]).label


def test_a_pixel_is_enough(network: Network) -> None:
    restored = load_network(network("drunet")[0]).restore(_clip(1, 1), None, FP32).result.frames
    assert restored.shape == (2, 3, 1, 1)


@pytest.mark.parametrize("name", ["dncnn", "compact-x2"])
def test_tiles_change_nothing_where_the_network_sees_less_than_their_halo(
    network: Network, name: str
) -> None:
    restorer = load_network(network(name)[0])
    clip = _clip(150, 203)
    whole, tiled = (
        restorer.restore(clip, None, Plan(scale=restorer.scale, device="cpu", tile=tile)) for tile in (0, 64)
    )
    assert whole.provenance["tile"] == "none" and tiled.provenance["tile"] == "64"
    assert (whole.result.frames - tiled.result.frames).abs().max() < 1.5 / 255
    assert (whole.result.frames != tiled.result.frames).float().mean() < 1e-3


def test_only_large_pictures_are_tiled_unasked(network: Network) -> None:
    restorer = load_network(network("dncnn")[0])
    wide = Clip(torch.rand(1, 3, 8, 140_000, generator=generator(0)))
    assert restorer.restore(wide, None, FP32).provenance["tile"] == "512"
    assert restorer.restore(_clip(), None, FP32).provenance["tile"] == "none"


def test_a_grey_network_restores_the_channels_one_by_one(network: Network) -> None:
    path, model = network("dncnn-grey")
    clip = _clip()
    restored = load_network(path).restore(clip, None, FP32).result.frames
    for channel in range(3):
        expected = _directly(model, clip.frames[:, channel : channel + 1])
        assert torch.equal(restored[:, channel : channel + 1], expected)


def test_bf16_is_near_fp32_and_refused_where_the_network_is_not_made_for_it(network: Network) -> None:
    restorer = load_network(network("dncnn")[0])
    clip = _clip()
    exact = restorer.restore(clip, None, FP32)
    rough = restorer.restore(clip, None, Plan(device="cpu", dtype="bf16"))
    assert (exact.provenance["dtype"], rough.provenance["dtype"]) == ("float32", "bfloat16")
    assert 0 < (exact.result.frames - rough.result.frames).abs().max() < 0.05
    assert restorer.restore(clip, None, FP32).result.frames.equal(exact.result.frames)
    restorer._descriptor.supports_bfloat16 = False
    with pytest.raises(UsageError, match="does not work in bf16"):
        restorer.restore(clip, None, Plan(device="cpu", dtype="bf16"))


def test_a_network_is_a_peer_with_its_label_and_hash(network: Network) -> None:
    path, _ = network("nafnet")
    for name in (str(path), f"spandrel:{path}"):
        entry = peer(name)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (entry.name, entry.weights, entry.told) == ("nafnet", sha256, None)
        assert entry.label == "NAFNet 8w (Restoration, x1)" and "spandrel" in entry.source
        restorer = entry.make(Facts())
        assert isinstance(restorer, NetworkPeer)
        assert restorer.restore(_clip(), None, FP32).provenance["weights"] == sha256


def test_what_spandrel_does_not_know_or_is_damaged_is_refused(network: Network, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.safetensors"
    save_file({"nobody.weight": torch.zeros(3)}, stranger)
    with pytest.raises(ModelError, match=r"holds no network that spandrel .* knows"):
        load_network(stranger)
    path, _ = network("dncnn")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match="damaged"):
        load_network(path)


def test_values_that_are_not_numbers_are_an_error(network: Network) -> None:
    path, model = network("dncnn")
    state = {key: value * torch.nan for key, value in model.state_dict().items()}
    save_file(state, path)
    with pytest.raises(ModelError, match="not numbers"):
        load_network(path).restore(_clip(), None, FP32)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_pickles_are_refused_with_how_to_convert_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"network{suffix}"
    path.write_bytes(b"not even looked at")
    with pytest.raises(ModelError, match=r"never opened.*save_file"):
        peer(str(path))


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(ModelError, match="no network at nowhere"):
        peer("spandrel:nowhere.safetensors")


@pytest.mark.parametrize("missing", ["spandrel", "torchvision"])
def test_without_spandrel_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    path = tmp_path / "network.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    for name in [name for name in sys.modules if name.split(".")[0] in ("spandrel", missing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModelError, match=r"needs torchvision.*\[spandrel\]"):
        peer(str(path))
