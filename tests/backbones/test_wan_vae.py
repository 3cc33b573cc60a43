"""The VAE: causal, normalised by its own configuration, decoded chunk by chunk to the same pixels."""

from copy import deepcopy

import pytest
import torch

from unfade.backbones import wan_vae_tiles
from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL, WanConfig
from unfade.backbones.wan_vae import WanVae
from unfade.backbones.wan_vae_tiles import decode_in_tiles, reach, tile_grid

# Wan2.1's build: no residual shortcuts, no folding of pixels, stride 8.
OLDER = WanConfig(
    SMALL.transformer,
    {
        **SMALL.vae,
        "is_residual": False,
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": None,
        "scale_factor_spatial": 8,
    },
    SMALL.scheduler,
)


@pytest.fixture(scope="module", params=[SMALL, OLDER], ids=["wan2.2", "wan2.1"])
def wan(request: pytest.FixtureRequest) -> Wan:
    torch.manual_seed(1)
    return build_wan(request.param)


def test_the_first_latent_is_that_of_the_first_frame_alone(wan: Wan) -> None:
    clip = torch.rand(1, 3, 9, 64, 96)
    whole, first = wan.vae.encode(clip), wan.vae.encode(clip[:, :, :1])
    assert tuple(whole.shape[1:]) == wan.config.latent_shape(9, 64, 96)
    torch.testing.assert_close(first, whole[:, :, :1], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(whole[:, :, 1], whole[:, :, 0], atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_chunks_are_what_the_model_decodes_at_once(wan: Wan, count: int) -> None:
    z, _, height, width = wan.config.latent_shape(5, 64, 96)
    latents = torch.randn(1, z, count, height, width)
    chunks = list(wan.vae.decode(latents))
    assert [chunk.shape[2] for chunk in chunks] == [1, 4, 4][:count]
    with torch.no_grad():
        whole = wan.vae.model.decode(wan.vae.denormalised(latents)).sample
    assert torch.equal(torch.cat(chunks, dim=2), whole * 0.5 + 0.5)


@pytest.mark.parametrize("count", [1, 2])
def test_tiles_leave_no_trace(wan: Wan, count: int) -> None:
    """More than one tile in both directions, and the middle ones end in no border of the canvas."""
    z = wan.config.latent_shape(5, 32, 32)[0]
    latents = torch.randn(1, z, count, 5, 13)
    whole = torch.cat(list(wan.vae.decode(latents)), dim=2)
    tiled = WanVae(wan.vae.model)
    tiled.tile = 3 * wan.config.vae["scale_factor_spatial"]
    rows, columns = tile_grid(wan.vae.model, 5, 13, tiled.tile)
    assert (len(rows), len(columns)) == (2, 5)
    assert 0 < columns[2].outer_start and columns[2].outer_stop < columns[-1].stop
    chunks = list(tiled.decode(latents))
    assert tiled.frames_decoded == 4 * count - 3
    torch.testing.assert_close(torch.cat(chunks, dim=2), whole, atol=2e-5, rtol=0)
    (alone,) = tiled.decode(latents, last=True)
    assert tiled.frames_decoded == 2 * (4 * count - 3)
    assert torch.equal(alone, torch.cat(chunks, dim=2)[:, :, -1:])


def test_tiles_look_just_as_far_as_they_must(wan: Wan, monkeypatch: pytest.MonkeyPatch) -> None:
    model = deepcopy(wan.vae.model).double()
    far = reach(model)
    z = torch.randn(1, wan.config.vae["z_dim"], 1, 2, 20, dtype=torch.float64)
    with torch.inference_mode():
        whole = model.decode(z).sample
        tiled = decode_in_tiles(model, z, 10 * wan.config.vae["scale_factor_spatial"])
        assert float((tiled - whole).abs().max()) < 1e-9
        monkeypatch.setattr(wan_vae_tiles, "reach", lambda model: far - 1)
        short = decode_in_tiles(model, z, 10 * wan.config.vae["scale_factor_spatial"])
        assert float((short - whole).abs().max()) > 1e-6


def test_a_canvas_no_larger_than_a_tile_is_decoded_whole(wan: Wan) -> None:
    z, _, height, width = wan.config.latent_shape(5, 64, 96)
    latents = torch.randn(1, z, 2, height, width)
    tiled = WanVae(wan.vae.model)
    tiled.tile = 96
    for one, other in zip(tiled.decode(latents), wan.vae.decode(latents), strict=True):
        assert torch.equal(one, other)


def test_two_decodings_at_once_do_not_meet(wan: Wan) -> None:
    z, _, height, width = wan.config.latent_shape(5, 64, 96)
    one, two = torch.randn(2, 1, z, 2, height, width)
    alone = list(wan.vae.decode(one)), list(wan.vae.decode(two))
    mixed = list(zip(wan.vae.decode(one), wan.vae.decode(two), strict=True))
    for index, (left, right) in enumerate(mixed):
        assert torch.equal(left, alone[0][index])
        assert torch.equal(right, alone[1][index])


def test_latents_are_normalised_by_the_loaded_configuration() -> None:
    plain = {"latents_mean": [0.0] * 8, "latents_std": [1.0] * 8}
    torch.manual_seed(1)
    raw = build_wan(WanConfig(SMALL.transformer, {**SMALL.vae, **plain}, SMALL.scheduler))
    torch.manual_seed(1)
    normal = build_wan(SMALL)
    image = torch.rand(1, 3, 1, 64, 64)
    mean, std = (
        torch.tensor(SMALL.vae[name]).reshape(1, 8, 1, 1, 1) for name in ("latents_mean", "latents_std")
    )
    raw_latents = raw.vae.encode(image)
    torch.testing.assert_close(normal.vae.encode(image), (raw_latents - mean) / std)
    torch.testing.assert_close(normal.vae.denormalised(normal.vae.encode(image)), raw_latents)
    assert torch.equal(raw.vae.encode(image), raw.vae.model.encode(image * 2 - 1).latent_dist.mode())


def test_frames_are_counted(wan: Wan) -> None:
    vae = type(wan.vae)(wan.vae.model)
    latents = vae.encode(torch.rand(2, 3, 5, 32, 32))
    assert (vae.frames_encoded, vae.frames_decoded) == (10, 0)
    list(vae.decode(latents))
    assert (vae.frames_encoded, vae.frames_decoded) == (10, 10)


def test_tiles_of_the_model_come_at_once() -> None:
    torch.manual_seed(1)
    wan = build_wan(SMALL)
    latents = torch.randn(1, *wan.config.latent_shape(5, 96, 96))
    wan.vae.model.enable_tiling(64, 64, 48, 48)
    chunks = list(wan.vae.decode(latents))
    assert [tuple(chunk.shape) for chunk in chunks] == [(1, 3, 5, 96, 96)]
    (alone,) = wan.vae.decode(latents, last=True)
    assert torch.equal(alone, chunks[0][:, :, -1:])
