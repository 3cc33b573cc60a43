"""The proof that it learns: a small Wan VAE and transformer of the real classes, from nothing, on two CPU cores.

    python -m unfade.recipes.run_vbridge_cpu --photos ../shared/data/photos --runs runs/vbridge-cpu

takes about 50 minutes on two free cores with avx512_bf16 (`vae` on both of them; then `base` and `drift` on one
beside `ablations` on the other; then `report`), and goes on where it stopped when started again. What came out, with
the commit that measured it, is in `docs/runs/vbridge-cpu/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unfade.backbones.wan_config import TI2V_5B, WanConfig
from unfade.conditioning.lora import LoraSettings
from unfade.diffusion.flow import UNIPC
from unfade.recipes.vbridge_ablations import Ablation
from unfade.training.autoencoder import AutoencoderRun
from unfade.training.vbridge_run import VBridgeRun

# Three draws on top of one another: a standard deviation of about 67 of 255 at the strength "strong".
HEAVY_NOISE = "gaussian-noise+gaussian-noise+gaussian-noise"


def small_wan(dim: int, layers: int, z_dim: int = 16, base: int = 32) -> WanConfig:
    """A Wan of any size: stride 8 in space and 4 in time, patches of 2x2, heads of 64 channels.

    The VAE is Wan2.2's with one level less (residual, patchified). Text is 32 channels wide and says nothing: see
    `backbones.wordless`.
    """
    transformer = {
        **TI2V_5B.transformer,
        "num_attention_heads": dim // 64,
        "attention_head_dim": 64,
        "in_channels": z_dim,
        "out_channels": z_dim,
        "text_dim": 32,
        "ffn_dim": 4 * dim,
        "num_layers": layers,
    }
    vae = {
        **TI2V_5B.vae,
        "base_dim": base,
        "decoder_base_dim": base,
        "z_dim": z_dim,
        "dim_mult": [1, 2, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [True, True],
        "scale_factor_spatial": 8,
        "latents_mean": [0.0] * z_dim,
        "latents_std": [1.0] * z_dim,
    }
    return WanConfig(transformer, vae, UNIPC)


@dataclass(frozen=True, slots=True, kw_only=True)
class VBridgeCpu:
    """The whole proof.

    Attributes:
        model: sizes of the model that is written in the end.
        ablated: sizes of the transformer that the ablations train; its VAE is the same.
        coder: how the VAE is trained, on all photos but those held out.
        kinds: category and name of each degradation.
        strength: of the degradations.
        held_out, few, drifting: photos to judge on, for the base, and for the drift correction; none is two of them.
        ablation_photos: of the base's, those that the ablations use.
        base, drift: the trainings.
        tables: rows of each table.
        table_sizes: of the crops at which tables are judged.
        size: of the crops on which the drift correction learns, and at which everything else is judged.
        steps: of the sampler when judging.
        sweep: numbers of steps compared for the base.
    """

    model: WanConfig = field(default_factory=lambda: small_wan(320, 6))
    ablated: WanConfig = field(default_factory=lambda: small_wan(192, 6))
    coder: AutoencoderRun = field(
        default_factory=lambda: AutoencoderRun(clips=2, frames=9, kinds=("lowlight", "haze", HEAVY_NOISE))
    )
    kinds: Mapping[str, str] = field(
        default_factory=lambda: {"Lowlight": "lowlight", "Haze": "haze", "Noise": HEAVY_NOISE}
    )
    strength: Any = "strong"
    held_out: int = 20
    few: int = 200
    drifting: int = 60
    ablation_photos: int = 120
    base: VBridgeRun
    drift: VBridgeRun
    tables: Mapping[str, tuple[Ablation, ...]]
    table_sizes: tuple[int, ...] = (64, 96)
    size: int = 96
    steps: int = 4
    sweep: tuple[int, ...] = (1, 4, 10, 25)


def from_nothing(stages: tuple[tuple[int, int], ...], **changes: Any) -> VBridgeRun:
    """A run that trains all weights at a high rate that cools down, in large batches of small crops.

    Args:
        stages: (epochs, crop).
        changes: of other values.
    """
    return VBridgeRun(
        stages=stages,
        lr=8e-4,
        warmup=100,
        cooling=0.3,
        weight_decay=0.01,
        eps=1e-8,
        betas=(0.9, 0.98),
        clip=1.0,
        batch=16,
        text_dropout=0.0,
        crops=2,
        gradient_checkpointing=False,
        checkpoint_every=100,
        log_every=20,
        validate_every=10**9,
        **changes,
    )


def vbridge_cpu() -> VBridgeCpu:
    """Two cores, 50 minutes: curriculum 64 -> 96, drift correction, and three short tables.

    The rows of the curriculum's table take about the same time each; those of the others the same steps.

    Command: `python -m unfade.recipes.run_vbridge_cpu --photos DIR --runs DIR`. Expected: `docs/runs/vbridge-cpu/`.
    """
    few, ablated, drifting = 200, 120, 60

    def row(name: str, stages: tuple[tuple[int, int], ...], **changes: Any) -> Ablation:
        trajectory = changes.pop("trajectory", "linear")
        return Ablation(name, from_nothing(stages, **changes), trajectory, ablated)

    short, whole = ((28, 64),), ((16, 64), (6, 96))
    return VBridgeCpu(
        few=few,
        drifting=drifting,
        ablation_photos=ablated,
        base=from_nothing(((30, 64), (16, 96))),
        drift=replace(
            from_nothing(((24, 96),)),
            frames=5,
            lora=LoraSettings(),
            warmup=20,
            crops=1,
            checkpoint_every=25,
        ),
        tables={
            "frames": (
                row("5 frames", short, frames=5),
                row("9 frames", short),
                row("17 frames", short, frames=17),
            ),
            "curriculum": (row("64", short), row("64 + 96", whole), row("96", ((14, 96),))),
            "trajectory": (row("linear", short), row("fade", short, trajectory="fade")),
        },
    )


def vbridge_cpu_smoke() -> VBridgeCpu:
    """Two steps of everything with the smallest sizes, for tests; what comes out is no better than noise."""
    run = from_nothing(((1, 16),))
    run = replace(run, batch=4, crops=1, checkpoint_every=1, log_every=1)
    small = small_wan(64, 1, z_dim=4, base=4)
    return VBridgeCpu(
        model=small,
        ablated=small,
        coder=AutoencoderRun(
            steps=4, batch=16, crop=16, reach=24, clips=2, warmup=1, report_every=2, checkpoint_every=2
        ),
        held_out=1,
        few=2,
        drifting=1,
        ablation_photos=1,
        base=run,
        drift=replace(run, frames=5, lora=LoraSettings(rank=2)),
        tables={
            "frames": (
                Ablation("5 frames", replace(run, frames=5), each=1),
                Ablation("9 frames", run, each=1),
            ),
            "trajectory": (Ablation("fade", run, "fade", 1),),
        },
        table_sizes=(16,),
        size=16,
        steps=1,
        sweep=(1, 2),
    )


RECIPES = {"cpu": vbridge_cpu, "smoke": vbridge_cpu_smoke}
