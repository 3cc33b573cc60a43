"""The VAE in strips: the pixels of the whole, with less memory, and what chunks leave to each other."""

import pytest
import torch
from torch import Tensor

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V
from unfade.backbones.cogvideox_strips import Strips
from unfade.backbones.cogvideox_vae import CogVideoXVae
from unfade.backbones.live_bytes import peak_of

# Rows of one place each, strips that end anywhere, and one strip.
SIDES = (5, 16, 300)


@pytest.fixture(scope="module")
def vae() -> CogVideoXVae:
    """Small, with norms that are not at their beginning."""
    torch.manual_seed(0)
    made = build_cogvideox(SMALL_T2V).vae
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return torch.rand(1, 3, 17, 40, 56, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def whole(vae: CogVideoXVae, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Latents, and frames of some other ones."""
    return vae.encode(clip), torch.cat(list(vae.decode(others())), dim=2)


def others() -> Tensor:
    return torch.randn(1, 4, 5, 5, 7, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("side", SIDES)
def test_strips_leave_no_trace(
    vae: CogVideoXVae, clip: Tensor, whole: tuple[Tensor, Tensor], side: int
) -> None:
    made = CogVideoXVae(vae.model, vae.latent_scale, vae.image_scale)
    made.tile = side
    torch.testing.assert_close(made.encode(clip), whole[0], atol=2e-5, rtol=1e-5)
    came = made.encode_frames(iter(clip[0].transpose(0, 1)))
    torch.testing.assert_close(came, whole[0], atol=2e-5, rtol=1e-5)
    frames = torch.cat(list(made.decode(others())), dim=2)
    assert frames.shape == (1, 3, 17, 40, 56)
    torch.testing.assert_close(frames, whole[1], atol=2e-5, rtol=1e-5)


def test_one_frame_alone(vae: CogVideoXVae, clip: Tensor) -> None:
    made = CogVideoXVae(vae.model, vae.latent_scale, vae.image_scale)
    made.tile = 16
    photo = clip[:, :, 3]
    torch.testing.assert_close(made.encode_image(photo), vae.encode_image(photo), atol=2e-5, rtol=1e-5)
    one = others()[:, :, :1]
    torch.testing.assert_close(next(made.decode(one)), next(vae.decode(one)), atol=2e-5, rtol=1e-5)


def test_in_half_precision_they_are_as_near_as_the_whole(vae: CogVideoXVae) -> None:
    half = build_cogvideox(SMALL_T2V).vae.model
    half.load_state_dict(vae.model.state_dict())
    half = half.to(torch.bfloat16)
    z, exact = others().bfloat16(), vae.model.decoder(others())[0]
    with torch.inference_mode():
        errors = [
            float((made.float() - exact).abs().mean())
            for made in (half.decoder(z)[0], Strips(16).decode(half.decoder, z))
        ]
    assert 0 < errors[1] < 1.2 * errors[0]


def test_the_first_chunk_is_remembered(vae: CogVideoXVae, clip: Tensor) -> None:
    """A later chunk without the one before would be another one."""
    with torch.inference_mode():
        strips = Strips(16)
        strips.encode(vae.model.encoder, clip[:, :, :9])
        after = strips.encode(vae.model.encoder, clip[:, :, 9:])
        alone = Strips(16).encode(vae.model.encoder, clip[:, :, 9:])
    assert float((after - alone).abs().max()) > 1e-2


def test_less_memory() -> None:
    model = build_cogvideox(SMALL_T2V, "meta").vae.model
    latents = torch.empty(1, 4, 3, 24, 24, device="meta")
    peaks = [
        peak_of(lambda: model.decoder(latents)),
        *(peak_of(lambda side=side: Strips(side).decode(model.decoder, latents)) for side in (512, 48)),
    ]
    assert peaks == sorted(peaks, reverse=True) and peaks[2] < 0.35 * peaks[0]


def test_a_side_of_nothing() -> None:
    with pytest.raises(ValueError, match="not a side of 0"):
        Strips(0)
