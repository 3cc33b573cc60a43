"""How the embedded model is trained.

    unfade train tiny --photos ../shared/data/photos --runs runs/tiny

takes about 100 minutes on two cores with avx512_bf16, and goes on where it stopped when started again. The
numbers that came out, with the commit that measured them, are in `benchmarks/results/quality.json` and in the
model card beside the weights.
"""

from unfade.backbones.tiny import TinyConfig
from unfade.training.tiny import TinyRun


def tiny_cpu() -> TinyRun:
    """From nothing on two CPU cores, a network of one skill: 11,000 steps, crops of 96 and then 128 pixels.

    Command: `unfade train tiny --photos DIR...`. Hardware: 2 cores, avx512_bf16 (about 3.5 steps a second).
    Expected: see the table in `src/unfade/backbones/weights/README.md`.
    """
    return TinyRun(steps=11_000, network=TinyConfig(skills=(1, 1, 1)))


def tiny_specialist(steps: int = 2000) -> TinyRun:
    """On from given weights of one skill, for one family of damage, with its kernels alone.

    Command: `unfade train skills --weights WEIGHTS --photos DIR...`, which trains one for each family and merges them.
    Expected: on held-out photos, noise of sigma 25 +0.5 dB, enlarging twice +0.6 dB (LOG.md, 2026-11-30).
    """
    return TinyRun(
        steps=steps, stages=((1.0, 128, 8),), lr=4e-4, warmup=50, ema=0.997, refine=0.0, validate_every=500
    )


def tiny_further(steps: int = 2200) -> TinyRun:
    """On from given weights on two CPU cores, everything at once again, for walks of many steps.

    Command: `unfade train tiny --recipe further --start src/unfade/backbones/weights/tiny.safetensors --photos DIR...`.
    """
    return TinyRun(
        steps=steps,
        lr=6e-5,
        warmup=100,
        stages=((1.0, 128, 16),),
        refine=0.25,
        again=3,
        later=0.3,
        validate_every=500,
    )


def tiny_gpu(steps: int = 60_000) -> TinyRun:
    """On from given weights on one GPU: large batches, crops up to 192 pixels.

    Command: `make gpu-train`. Expected: not measured yet; no GPU has been lent for it.
    """
    return TinyRun(
        steps=steps,
        stages=((0.5, 128, 64), (0.5, 192, 32)),
        lr=4.5e-4,
        later=0.3,
        warmup=500,
        held_out=24,
        validate_every=5000,
        checkpoint_every=2500,
    )


def tiny_smoke() -> TinyRun:
    """A few steps of everything, for tests and for machines where only the plumbing is to be tried."""
    return TinyRun(
        steps=4,
        stages=((0.5, 32, 8), (0.5, 40, 8)),
        later=0.5,
        warmup=1,
        held_out=2,
        validate_every=4,
        checkpoint_every=2,
    )


RECIPES = {"cpu": tiny_cpu, "further": tiny_further, "gpu": tiny_gpu, "smoke": tiny_smoke}
