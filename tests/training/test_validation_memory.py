"""The VAE of a training that is judged: in tiles or strips where the whole does not fit, in full precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_vbridge import RUN, TEXTS, wan

from unfade.backbones import wan_vae
from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_1_5
from unfade.backbones.cogvideox_memory import cogvideox_footprint
from unfade.backbones.video import VideoModel
from unfade.backbones.wan_vae_tiles import decode_in_tiles
from unfade.evaluation.metrics.fidelity import ssim
from unfade.training import run_memory, video_trainer
from unfade.training.sequences import PhotoSequences
from unfade.training.vbridge import VBridgeTrainer


def test_the_vae_works_in_tiles_where_the_whole_does_not_fit(
    sequences: PhotoSequences, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(RUN, stages=((4, 64),))
    trainer = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path, sequences, cache=cache)
    whole = trainer.validate()
    needed = replace(run_memory.needs_of(trainer.video, (64, 64), 5), decode=10**12, decode_tiled={32: 10**9})
    monkeypatch.setattr(run_memory, "needs_of", lambda video, canvas, frames: needed)
    monkeypatch.setattr(video_trainer, "free_bytes", lambda device: 10**10)
    monkeypatch.setattr(run_memory, "_PER_PIXEL", 10**9)
    seen: list[int] = []
    monkeypatch.setattr(
        wan_vae,
        "decode_in_tiles",
        lambda model, z, side, *told: seen.append(side) or decode_in_tiles(model, z, side, *told),
    )
    told = trainer.validate()
    # A result and a truth for each sequence; nothing is left for the latents that are learnt from.
    assert seen == [32] * 2 * len(sequences) and trainer.video.vae.tile == 0
    assert told["frames"] == pytest.approx(whole["frames"], abs=2e-3)


def test_tiles_are_the_largest_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    video: VideoModel = wan()
    footprint = run_memory.needs_of(video, (64, 64), 5)

    def tile(free: int, side: int = 512, **needs: Any) -> int:
        told = replace(footprint, **needs)
        monkeypatch.setattr(run_memory, "needs_of", lambda video, canvas, frames: told)
        return run_memory.tile_for(video, (side, side), 5, free)

    # As the published VAE decodes 9 frames of 512, 704 and 960 pixels, beside what learns on a card of 24 GB.
    sizes = (
        {
            "decode": 5_700_000_000,
            "decode_tiled": {1024: 5_700_000_000, 512: 5_700_000_000, 256: 2_800_000_000},
        },
        {
            "decode": 10_700_000_000,
            "decode_tiled": {1024: 10_700_000_000, 512: 4_500_000_000, 256: 4_200_000_000},
        },
        {
            "decode": 19_900_000_000,
            "decode_tiled": {1024: 19_900_000_000, 512: 7_500_000_000, 256: 4_500_000_000},
        },
    )
    assert [tile(11_000_000_000, **needs) for needs in sizes] == [0, 512, 512]
    assert [tile(7_000_000_000, **needs) for needs in sizes] == [0, 512, 256]
    # Where nothing fits, what needs least; where encoding has strips, both have to fit.
    assert tile(1_000_000_000, **sizes[1]) == 256
    assert (
        tile(11_000_000_000, **sizes[2], encode=10**11, encode_tiled={1024: 10**11, 512: 10**11, 256: 1})
        == 256
    )
    # What is small beyond doubt is decoded whole without a prediction.
    assert tile(11_000_000_000, side=64, decode=10**12) == 0


def test_strips_are_measured_for_cogvideox() -> None:
    needs = run_memory.needs_of(build_cogvideox(SMALL_1_5), (32, 48), 9)
    assert set(needs.encode_tiled) == set(needs.decode_tiled)
    # All frames of a clip are encoded, of which the first one alone is less.
    assert needs.encode > cogvideox_footprint(SMALL_1_5, (32, 48), 9).encode


# What diffusers' norms say of bf16 beside their fp32 weights; it concerns speed.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_validation_decodes_in_full_precision(sequences: PhotoSequences, cache: Path, tmp_path: Path) -> None:
    trainer = VBridgeTrainer(
        replace(RUN, precision="bf16"), wan(), sequences, TEXTS, tmp_path, sequences, cache=cache,
        measures={"ssim": ssim},
    )  # fmt: skip
    seen: dict[str, set[torch.dtype]] = {"vae": set(), "denoiser": set()}

    def note(name: str):
        return lambda module, given, made: seen[name].add(made.dtype)

    vae = trainer.video.vae.model
    for part in (vae.encoder.conv_in, vae.decoder.conv_in, vae.decoder.conv_out):
        part.register_forward_hook(note("vae"))
    trainer.video.denoiser.model.blocks[0].attn1.to_q.register_forward_hook(note("denoiser"))  # type: ignore[union-attr,index,operator]
    told = trainer.validate()
    assert seen == {"vae": {torch.float32}, "denoiser": {torch.bfloat16}}
    # The VAE's answer to the truth has to do neither with the transformer nor with its precision.
    exact = VBridgeTrainer(
        RUN, wan(), sequences, TEXTS, tmp_path, sequences, cache=cache, measures={"ssim": ssim}
    ).validate()
    for name in ("input", "ceiling", "input_ssim", "ceiling_ssim"):
        assert told[name] == exact[name], name
    assert -1 <= told["result_ssim"] < 1
