"""Wan models in diffusers' folder layout: checked before anything large is read, never downloaded, no pickles."""

from pathlib import Path

import torch

from unfade.backbones.model_folder import (
    ModelFolder,
    check_folder,
    load_part,
    read_configs,
    read_json,
    save_folder,
    weight_files,
)
from unfade.backbones.wan import Wan
from unfade.backbones.wan_config import WanConfig
from unfade.core import ModelError
from unfade.diffusion.flow import FlowSchedule

TRANSFORMER = "WanTransformer3DModel"
_CLASSES = {
    "transformer": (TRANSFORMER,),
    "vae": ("AutoencoderKLWan",),
    "scheduler": ("UniPCMultistepScheduler",),
}

WanFolder = ModelFolder[WanConfig]


def open_wan(path: Path) -> WanFolder:
    """Everything that can be known to be wrong before weights are read.

    Raises:
        ModelError: the folder is missing or not a Wan model, a file is missing, truncated or a pickle, or the
            model is of a kind that can't be conditioned by a clean first latent.
    """
    check_folder(path)
    if read_json(path / "model_index.json", {}).get("transformer_2", (None,))[0]:
        raise ModelError(
            f"{path} is a two-stage model (transformer_2), which is not supported; use Wan2.2-TI2V-5B"
        )
    configs = read_configs(path, _CLASSES)
    try:
        known = WanConfig(configs["transformer"], configs["vae"], configs["scheduler"])
        FlowSchedule(config=known.scheduler)
    except ValueError as error:
        raise ModelError(f"{path} can't restore: {error}") from error
    return ModelFolder(path, known, {part: weight_files(path / part) for part in ("transformer", "vae")})


def load_wan(
    folder: WanFolder,
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Wan:
    """The model of a folder, in memory.

    Args:
        folder: what `open_wan` found.
        dtype: of the transformer; norms, tables and the embedding of time stay fp32 as diffusers declares.
        vae_dtype: of the VAE; anything below fp32 costs fidelity.
        device: where to.

    Raises:
        ModelError: weights are missing, left over, of another shape or damaged.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    # Before anything is read for good: a file that changed is not loaded.
    notes = folder.notes()
    transformer = load_part(WanTransformer3DModel, folder.path / "transformer", dtype)
    vae = load_part(AutoencoderKLWan, folder.path / "vae", vae_dtype)
    return Wan.of(transformer, vae, folder.config.scheduler, notes).to(torch.device(device))


def save_wan(wan: Wan, path: Path) -> None:
    """Writes a model in diffusers' layout, whole or not at all.

    Raises:
        OutputError: the folder exists or can't be written.
    """
    save_folder(
        path,
        {"transformer": wan.denoiser.model, "vae": wan.vae.model},
        {"_class_name": "UniPCMultistepScheduler", **wan.config.scheduler},
        {
            "_class_name": "WanImageToVideoPipeline",
            "expand_timesteps": True,
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
            "transformer": ["diffusers", TRANSFORMER],
            "transformer_2": [None, None],
            "vae": ["diffusers", "AutoencoderKLWan"],
        },
    )
