"""The proof that Vivid-VR learns: a small CogVideoX of the real classes, and its control, from nothing, on two cores.

    python -m unfade.recipes.run_vivid_cpu --photos ../shared/data/photos --clips ../shared/data/clips \
        --runs runs/vivid-cpu

goes on where it stopped when started again. What came out, how long it took and the commit that measured it are in
`docs/runs/vivid-cpu/`.
"""

from dataclasses import dataclass, field, replace

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.conditioning.control import ControlSettings
from unfade.degrade.grain import GrainRanges
from unfade.degrade.kernels import KernelRanges
from unfade.degrade.second_order import FootageSettings, SecondOrderSettings, StageSettings
from unfade.recipes.progressive_cpu import small_cogvideox
from unfade.restore.vividvr import ColourFixing
from unfade.training.autoencoder import AutoencoderRun
from unfade.training.concepts import ConceptRun
from unfade.training.progressive_run import ProgressiveRun
from unfade.training.vivid_run import VividRun

# Real-ESRGAN's second-order model for frames of 64 pixels: kernels and factors as much smaller, stronger noise.
_SIDES = (3, 5, 7)
DEGRADATION = SecondOrderSettings(
    first=StageSettings(
        kernels=KernelRanges(sides=_SIDES, sigma=(0.2, 0.8)),
        resizes=(0.2, 0.3, 0.5),
        factors=(0.6, 1.3),
        grain=GrainRanges(sigma=(20.0, 50.0), scale=(2.0, 6.0)),
        quality=(20.0, 80.0),
    ),
    second=StageSettings(
        blur=0.5,
        kernels=KernelRanges(sides=_SIDES, sigma=(0.2, 0.6)),
        resizes=(0.2, 0.2, 0.6),
        factors=(0.7, 1.2),
        grain=GrainRanges(sigma=(5.0, 30.0), scale=(0.5, 3.0)),
        quality=(20.0, 90.0),
    ),
    sinc=0.2,
    sides=(5, 7),
    footage=FootageSettings(codecs=("h264",), h264=(18.0, 34.0), preset="veryfast"),
)


def small_t2v(
    dim: int, layers: int, z_dim: int = 16, levels: tuple[int, ...] = (16, 32, 64)
) -> CogVideoXConfig:
    """A text-to-video CogVideoX1.5 of any size, as `progressive_cpu.small_cogvideox` but without a photo beside."""
    config = small_cogvideox(dim, layers, z_dim, levels)
    transformer = {
        **config.transformer,
        "in_channels": z_dim,
        "ofs_embed_dim": None,
        "max_text_seq_length": 40,
    }
    return replace(config, transformer=transformer)


@dataclass(frozen=True, slots=True)
class Setting:
    """How footage is restored where it is judged; by DDIM and without guidance in all cases.

    Attributes:
        steps: of the sampler.
        fidelity, colour: as of `VividSettings`.
    """

    steps: int
    fidelity: float
    colour: ColourFixing

    def told(self) -> str:
        """In a few words."""
        steps = f"{self.steps} step{'s' * (self.steps > 1)}"
        how = {"none": "left alone", "adain": "by AdaIN", "wavelet": "by wavelets"}[self.colour]
        return f"{steps}, fidelity {self.fidelity:g}, colours {how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VividCpu:
    """The whole proof.

    Attributes:
        model: sizes of the base.
        coder: how its VAE is trained, on all photos but those held out.
        base: how the transformer learns, whole and from nothing, to make captioned footage.
        control: how control learns, in every variant alike.
        variants: control by name of what it is without; "whole" has everything.
        concepts: how clips are made anew by the base.
        ratio: clips made anew for each real one.
        size: of the frames.
        length: frames of a piece of footage made of a photo.
        held_out: photos to judge on.
        choosing: videos to choose a setting on, which nothing learns from and nothing is judged on.
        steps, fidelities, colours: all settings that are tried; the last of `steps`, the first of `fidelities` and
            AdaIN are the published way.
        wide: side of the footage on which seams between tiles are looked for.
        crossfade: frames in which windows fade into one another.
    """

    model: CogVideoXConfig = field(default_factory=lambda: small_t2v(256, 6))
    coder: AutoencoderRun
    base: ProgressiveRun
    control: VividRun
    variants: dict[str, ControlSettings]
    concepts: ConceptRun
    ratio: float = 0.2
    size: int = 64
    length: int = 24
    held_out: int = 40
    choosing: int = 24
    steps: tuple[int, ...] = (1, 2, 4, 10)
    fidelities: tuple[float, ...] = (0.0, 0.2, 0.5)
    colours: tuple[ColourFixing, ...] = ("none", "adain", "wavelet")
    wide: int = 128
    crossfade: int = 4

    @property
    def published(self) -> Setting:
        """The published way, but for the number of steps, which is the largest that is tried."""
        return Setting(self.steps[-1], 0.0, "adain")


def _variants(whole: ControlSettings) -> dict[str, ControlSettings]:
    """Table 2 in short: each lacks one thing, and all but one learn from distilled concepts as well."""
    return {
        "whole": whole,
        "without distillation": whole,
        "without projector": replace(whole, projector=False),
        "without MLP": replace(whole, connectors="attention"),
        "without cross-attention": replace(whole, connectors="mlp"),
    }


def vivid_cpu() -> VividCpu:
    """Two cores, some 90 minutes: footage of 64x64 and nine frames.

    Command: `python -m unfade.recipes.run_vivid_cpu --photos DIR --clips DIR --runs DIR`. Expected:
    `docs/runs/vivid-cpu/`.
    """
    base = ProgressiveRun(
        stages=((16, 64),),
        lr=8e-4,
        warmup=100,
        cooling=0.3,
        weight_decay=0.01,
        batch=16,
        lora=None,
        image_noise=None,
        crops=3,
        gradient_checkpointing=False,
        checkpoint_every=100,
        log_every=20,
        validate_every=10**9,
    )
    control = VividRun(
        stages=((1, 64),),
        iterations=600,
        frames=9,
        least_frames=9,
        lr=1e-3,
        warmup=50,
        batch=16,
        crops=3,
        control=ControlSettings(blocks=2, bottleneck=64, width=64, groups=8),
        gradient_checkpointing=False,
        checkpoint_every=100,
        log_every=20,
        validate_every=10**9,
        validate_steps=10,
    )
    return VividCpu(
        coder=AutoencoderRun(
            steps=1000, crop=64, reach=128, clips=2, frames=9, trajectory="glide", kinds=("gaussian-noise",)
        ),
        base=base,
        control=control,
        variants=_variants(control.control),
        concepts=ConceptRun(steps=20, sampler="ddim", guidance=2.0, frames=9, size=(64, 64), count=180),
    )


def vivid_cpu_smoke() -> VividCpu:
    """Two steps of everything with the smallest sizes, for tests; what comes out is no better than noise."""
    full = vivid_cpu()
    small = ControlSettings(blocks=1, bottleneck=8, width=8, groups=2)
    run = replace(full.base, stages=((1, 16),), batch=4, warmup=1, crops=1, checkpoint_every=1, log_every=1)
    return replace(
        full,
        model=small_t2v(64, 1, z_dim=4, levels=(4, 4, 8)),
        coder=AutoencoderRun(
            steps=4,
            batch=24,
            crop=16,
            reach=24,
            clips=2,
            frames=9,
            trajectory="glide",
            kinds=("gaussian-noise",),
            warmup=1,
            report_every=2,
            checkpoint_every=2,
        ),
        base=run,
        control=replace(
            full.control,
            stages=((1, 16),),
            iterations=2,
            warmup=1,
            batch=4,
            crops=1,
            control=small,
            checkpoint_every=1,
            log_every=1,
            validate_steps=2,
        ),
        variants={
            "whole": small,
            "without distillation": small,
            "without MLP": replace(small, connectors="attention"),
        },
        concepts=replace(full.concepts, steps=4, size=(16, 16), count=2),
        ratio=0.5,
        size=16,
        held_out=2,
        choosing=1,
        steps=(1, 2),
        fidelities=(0.0, 0.5),
        wide=32,
    )


RECIPES = {"cpu": vivid_cpu, "smoke": vivid_cpu_smoke}
