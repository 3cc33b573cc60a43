"""Small VAEs in training: folded convolutions are diffusers' own, a run goes on exactly, the loss falls."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.wan import build_wan
from unfade.core import InputError, generator
from unfade.degrade import named
from unfade.recipes.progressive_cpu import small_cogvideox
from unfade.recipes.vbridge_cpu import small_wan
from unfade.training.autoencoder import AutoencoderRun, AutoencoderTrainer, drawn_clips, drawn_crops
from unfade.training.coders import scale, settle
from unfade.training.folded import folded_convolutions
from unfade.training.photos import Photos, load_photos

CONFIG = small_wan(64, 1, z_dim=4, base=4)
COGVIDEOX = small_cogvideox(64, 1, z_dim=4, levels=(4, 4, 8))
RUN = AutoencoderRun(
    steps=6, batch=16, crop=16, reach=24, clips=2, warmup=1, report_every=3, checkpoint_every=2
)


@pytest.fixture(scope="module")
def photos(examples: Path) -> Photos:
    return load_photos([examples])


def trainer(photos: Photos, folder: Path, run: AutoencoderRun = RUN, base: int = 4) -> AutoencoderTrainer:
    torch.manual_seed(3)
    vae = build_wan(small_wan(64, 1, z_dim=4, base=base)).vae.model
    settle(vae)
    return AutoencoderTrainer(run, vae, photos, folder)


@pytest.mark.parametrize("levels", [3, 4])
@pytest.mark.parametrize("frames", [1, 5, 9])
def test_folded_convolutions_are_the_real_ones(frames: int, levels: int) -> None:
    torch.manual_seed(0)
    from unfade.backbones.wan_config import SMALL

    wan = build_wan(CONFIG if levels == 3 else SMALL)
    clip = torch.rand(2, 3, frames, 32, 32)
    latents = wan.vae.encode(clip)
    decoded = torch.cat(list(wan.vae.decode(latents)), dim=2)
    with folded_convolutions(wan.vae.model):
        torch.testing.assert_close(wan.vae.encode(clip), latents, atol=2e-5, rtol=1e-4)
        again = torch.cat(list(wan.vae.decode(latents)), dim=2)
    torch.testing.assert_close(again, decoded, atol=2e-5, rtol=1e-4)
    assert torch.equal(wan.vae.encode(clip), latents)


@pytest.mark.parametrize("frames", [1, 9, 17])
def test_folded_convolutions_are_cogvideox_own(frames: int) -> None:
    """17 frames are decoded in two chunks, the second of which sees the end of the first."""
    torch.manual_seed(0)
    vae = build_cogvideox(COGVIDEOX).vae
    clip = torch.rand(2, 3, frames, 16, 24)
    latents = vae.encode(clip)
    decoded = torch.cat(list(vae.decode(latents)), dim=2)
    with folded_convolutions(vae.model):
        torch.testing.assert_close(vae.encode(clip), latents, atol=2e-5, rtol=1e-4)
        again = torch.cat(list(vae.decode(latents)), dim=2)
    torch.testing.assert_close(again, decoded, atol=2e-5, rtol=1e-4)
    assert torch.equal(vae.encode(clip), latents)


@pytest.mark.parametrize("family", ["wan", "cogvideox"])
@pytest.mark.parametrize("frames", [1, 9])
def test_gradients_are_the_real_ones(family: str, frames: int) -> None:
    torch.manual_seed(0)
    built = build_wan(CONFIG) if family == "wan" else build_cogvideox(COGVIDEOX)
    vae = built.vae.model.requires_grad_(True)
    clip = torch.rand(1, 3, frames, 16, 16) * 2 - 1

    def gradients() -> list[torch.Tensor]:
        answer = vae.decode(vae.encode(clip, return_dict=False)[0].mode(), return_dict=False)[0]
        parameters = [value for value in vae.parameters() if value.requires_grad]
        return list(torch.autograd.grad((answer - clip).square().mean(), parameters, allow_unused=True))

    real = gradients()
    with folded_convolutions(vae):
        for mine, theirs in zip(gradients(), real, strict=True):
            if theirs is not None:
                torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-3)


def test_a_settled_vae_sees_every_frame_alone() -> None:
    torch.manual_seed(0)
    vae = build_wan(CONFIG).vae
    settle(vae.model)
    clip = torch.rand(1, 3, 5, 16, 16)
    other = torch.cat([torch.rand(1, 3, 1, 16, 16), clip[:, :, 1:]], dim=2)
    torch.testing.assert_close(vae.encode(clip)[:, :, 1], vae.encode(other)[:, :, 1])


def test_a_settled_cogvideox_vae_begins_plain() -> None:
    """Its norms ignore the latents, its residual blocks pass on what they get, its posterior is narrow."""
    torch.manual_seed(0)
    vae = build_cogvideox(COGVIDEOX).vae.model
    settle(vae)
    posterior = vae.encode(torch.rand(1, 3, 1, 16, 16), return_dict=False)[0]
    assert float(posterior.logvar.min()) == float(posterior.logvar.max()) == -6
    block = vae.decoder.mid_block.resnets[0]
    features, latents = torch.rand(1, 8, 1, 4, 4), torch.rand(1, 4, 1, 4, 4)
    torch.testing.assert_close(block.norm1(features, latents)[0], block.norm1.norm_layer(features))
    torch.testing.assert_close(block(features, None, latents)[0], features)


def test_resuming_equals_never_stopping(photos: Photos, tmp_path: Path) -> None:
    whole = trainer(photos, tmp_path / "whole")
    whole.run()
    trainer(photos, tmp_path / "broken").run(until=4)
    second = trainer(photos, tmp_path / "broken")
    assert second.resume()
    assert second.step == 4
    second.run()
    for name, value in whole.average.items():
        assert torch.equal(second.average[name], value), name
    logs = [
        [json.loads(row) for row in (tmp_path / name / "vae.jsonl").read_text().splitlines()]
        for name in ("whole", "broken")
    ]
    assert [row["step"] for row in logs[0]] == [3, 6]
    assert [row["step"] for row in logs[1]] == [3, 4, 6]
    assert [row["psnr"] for row in logs[1] if row["step"] != 4] == [row["psnr"] for row in logs[0]]


def test_another_network_is_refused(photos: Photos, tmp_path: Path) -> None:
    trainer(photos, tmp_path).run(until=1)
    trainer(photos, tmp_path).save()
    with pytest.raises(InputError, match="another network"):
        trainer(photos, tmp_path, base=8).resume()


def test_it_learns_and_its_latents_are_normalised(photos: Photos, tmp_path: Path) -> None:
    run = AutoencoderRun(
        steps=24, batch=8, crop=16, reach=24, warmup=2, report_every=1000, checkpoint_every=1000
    )
    learner = trainer(photos, tmp_path, run)
    with folded_convolutions(learner.vae):
        before = learner.psnr()
    learner.run()
    with folded_convolutions(learner.vae):
        assert learner.psnr() > before + 0.5
    vae = learner.finish(samples=8)
    assert len(vae.config.latents_mean) == len(vae.config.latents_std) == 4
    assert not any(parameter.requires_grad for parameter in vae.parameters())


def test_a_cogvideox_vae_learns_and_its_latents_have_unit_size(photos: Photos, tmp_path: Path) -> None:
    torch.manual_seed(3)
    vae = build_cogvideox(COGVIDEOX).vae.model
    settle(vae)
    run = AutoencoderRun(
        steps=24,
        batch=12,
        crop=16,
        reach=24,
        frames=9,
        trajectory="fade",
        kinds=("resolution", "blur", "lowlight"),
        warmup=2,
        report_every=1000,
        checkpoint_every=1000,
    )
    learner = AutoencoderTrainer(run, vae, photos, tmp_path)
    with folded_convolutions(vae):
        before = learner.psnr()
    learner.run()
    with folded_convolutions(vae):
        assert learner.psnr() > before + 0.5
    vae = learner.finish(samples=8)
    latents = drawn_of(vae, [learner.batch(-1 - index) for index in range(8)])
    torch.testing.assert_close(latents.std(1), torch.ones(4), atol=0.02, rtol=0)
    assert CogVideoXConfig(COGVIDEOX.transformer, vae.config, COGVIDEOX.scheduler).latent_scale == 1


def drawn_of(vae: Any, batches: Sequence[torch.Tensor]) -> torch.Tensor:
    """Draws from the posteriors, `[z, ...]`."""
    dice = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        posteriors = [vae.encode(pixels, return_dict=False)[0] for pixels in batches]
    return torch.cat([one.sample(dice).transpose(0, 1).flatten(1) for one in posteriors], dim=1)


def test_scaling_a_cogvideox_vae_by_channel_changes_no_pixel() -> None:
    """Channels a hundred times as large as others come to one size, in what is drawn and in what reads it."""
    torch.manual_seed(0)
    vae = build_cogvideox(COGVIDEOX).vae.model.eval().requires_grad_(False)
    sizes = torch.tensor([0.03, 0.3, 1.0, 3.0])
    made = vae.encoder.conv_out.conv
    clip = torch.rand(2, 3, 17, 32, 48) * 2 - 1
    plain = vae.encode(clip, return_dict=False)[0].mode().transpose(0, 1).flatten(1).std(1)
    made.weight[:4] *= (sizes / plain).view(-1, 1, 1, 1, 1)
    made.bias[:4] *= sizes / plain
    before = vae.encode(clip, return_dict=False)[0]
    pixels = vae.decode(before.mode(), return_dict=False)[0]
    drawn = before.sample(generator(0)).transpose(0, 1).flatten(1)
    scale(vae, drawn)
    after = vae.encode(clip, return_dict=False)[0]
    again = after.sample(generator(0)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(again.std(1), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(again * drawn.std(1, keepdim=True), drawn, atol=1e-4, rtol=1e-4)
    assert vae.config.scaling_factor == 1.0
    torch.testing.assert_close(vae.decode(after.mode(), return_dict=False)[0], pixels, atol=1e-4, rtol=1e-4)


def test_clips_fade_as_progressions_do(photos: Photos) -> None:
    clean = drawn_crops(photos, 2, 16, 24, random.Random(0))
    fields = torch.Generator().manual_seed(0)
    clips = drawn_clips(clean, [named("resolution")], 9, random.Random(1), fields, "fade")
    assert clips.shape == (2, 3, 9, 16, 16)
    assert torch.equal(clips[:, :, -1], clean)
    straight = torch.lerp(clips[:, :, 0], clean, 0.5)
    assert float((clips[:, :, 4] - straight).abs().mean()) > 1e-3
    lines = drawn_clips(clean, [named("resolution")], 9, random.Random(1), fields)
    torch.testing.assert_close(lines[:, :, 4], torch.lerp(lines[:, :, 0], clean, 0.5))


def test_crops_come_from_reduced_photos(photos: Photos) -> None:
    crops = drawn_crops(photos, 6, 16, 64, random.Random(0))
    assert crops.shape == (6, 3, 16, 16)
    assert 0 <= float(crops.min()) < float(crops.max()) <= 1
