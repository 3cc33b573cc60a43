"""How V-Bridge is trained.

    unfade train vbridge --pairs FoundIR/train --pairs Real-CE --model Wan-AI/Wan2.2-TI2V-5B-Diffusers --lora

goes on where it stopped when started again. With `accelerate launch -m unfade` in the place of `unfade` it takes all
GPUs there are. None of the expected numbers has been measured here: that needs the published weights and FoundIR.
"""

from dataclasses import replace

from unfade.conditioning.lora import LoraSettings
from unfade.core import UsageError
from unfade.training.vbridge_run import VBridgeRun

LORA_LR = 1e-4


def vbridge_paper() -> VBridgeRun:
    """As published: all weights, 1,050 pairs, 39,600 steps of 8 samples at 512, then 704, then 960 pixels.

    Command: `accelerate launch --use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP
    --fsdp_transformer_layer_cls_to_wrap WanTransformerBlock -m unfade train vbridge --pairs FoundIR/train
    --pairs Real-CE --few-shot 1K --model Wan-AI/Wan2.2-TI2V-5B-Diffusers`. Hardware: eight GPUs of 40 GB or
    one of 141 GB (fp32 weights, gradients and moments of 5 B parameters are 80 GB). Expected: 23.68 dB on FoundIR's
    test set (the paper's row without drift correction); not measured by us.
    """
    return VBridgeRun()


def vbridge_lora() -> VBridgeRun:
    """An adapter of rank 32 on a bf16 base, else as published; predicted to fit a 24 GB card, tightly at 960 pixels.

    Command: `unfade train vbridge --recipe lora --pairs DIR --model FOLDER`. Hardware: one GPU of 24 GB for 512 and
    704 pixels, of 32 GB to be sure of 960. Base, fp32 VAE, adapter, its gradients and moments are 14.1 GB. Beside them,
    predicted on the meta device for 9 frames of 512, 704 and 960 pixels: a step of one sample takes 1.0, 1.9, 3.4 GB,
    encoding a clip 2.0, 3.7, 6.9 GB, and decoding one for validation 5.7, 10.7, 19.9 GB; where that does not fit, it is
    done in tiles, with 4.5 GB at 704 and 7.5 at 960. So the peaks are 20, 19 and 22 GB, and what cuDNN takes for itself
    comes on top. Expected: neither memory nor quality was measured by us. The rate is that of DiffSynth's LoRA
    training of Wan.
    """
    return VBridgeRun(lora=LoraSettings(), lr=LORA_LR)


def vbridge_smoke() -> VBridgeRun:
    """A few steps of everything on a small model, for tests and for trying the plumbing on any CPU."""
    return VBridgeRun(
        stages=((1, 32), (1, 64)),
        frames=5,
        lora=LoraSettings(rank=4, alpha=4.0),
        lr=LORA_LR,
        warmup=1,
        batch=2,
        crops=1,
        precision="fp32",
        checkpoint_every=2,
        validate_every=100,
        validate_steps=2,
        log_every=1,
    )


RECIPES = {"paper": vbridge_paper, "lora": vbridge_lora, "smoke": vbridge_smoke}


def recipe(name: str, *, adapter: bool | None = None) -> VBridgeRun:
    """A recipe by name, as an adapter (True) or whole (False) where it is asked for.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; there is {', '.join(RECIPES)}")
    run = RECIPES[name]()
    if adapter is None or adapter == (run.lora is not None):
        return run
    return replace(run, lora=LoraSettings(), lr=LORA_LR) if adapter else replace(run, lora=None, lr=2e-5)
