"""CogVideoX models in diffusers' folder layout."""

from pathlib import Path

import torch

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.model_folder import (
    ModelFolder,
    check_folder,
    load_part,
    read_configs,
    save_folder,
    weight_files,
)
from unfade.core import ModelError
from unfade.diffusion.v_schedule import VSchedule

TRANSFORMER = "CogVideoXTransformer3DModel"
_CLASSES = {
    "transformer": (TRANSFORMER,),
    "vae": ("AutoencoderKLCogVideoX",),
    "scheduler": ("CogVideoXDPMScheduler", "CogVideoXDDIMScheduler"),
}

CogVideoXFolder = ModelFolder[CogVideoXConfig]


def open_cogvideox(path: Path, sees_photo: bool | None = True) -> CogVideoXFolder:
    """Everything that can be known to be wrong before weights are read.

    Args:
        path: of the folder.
        sees_photo: whether an image-to-video model is wanted, or one that is told by text alone; None for either.

    Raises:
        ModelError: the folder is missing or not a CogVideoX model, a file is missing, truncated or a pickle, or the
            model is of the other kind.
    """
    check_folder(path)
    configs = read_configs(path, _CLASSES)
    try:
        known = CogVideoXConfig(configs["transformer"], configs["vae"], configs["scheduler"])
        VSchedule(config=known.scheduler)
    except ValueError as error:
        raise ModelError(f"{path} can't restore: {error}") from error
    if sees_photo is not None and known.sees_photo != sees_photo:
        raise ModelError(
            f"{path} can't restore: it is a text-to-video model, which sees no photo; only image-to-video models fit "
            "(CogVideoX1.5-5B-I2V), or give it Vivid-VR's control for footage (--control)"
            if sees_photo
            else f"{path} can't be controlled: it is an image-to-video model; Vivid-VR needs CogVideoX1.5-5B"
        )
    return ModelFolder(path, known, {part: weight_files(path / part) for part in ("transformer", "vae")})


def load_cogvideox(
    folder: CogVideoXFolder,
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> CogVideoX:
    """The model of a folder, in memory.

    Args:
        folder: what `open_cogvideox` found.
        dtype: of the transformer.
        vae_dtype: of the VAE; anything below fp32 costs fidelity.
        device: where to.

    Raises:
        ModelError: weights are missing, left over, of another shape or damaged.
    """
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

    # Before anything is read for good: a file that changed is not loaded.
    notes = folder.notes()
    transformer = load_part(CogVideoXTransformer3DModel, folder.path / "transformer", dtype)
    vae = load_part(AutoencoderKLCogVideoX, folder.path / "vae", vae_dtype)
    return CogVideoX.of(transformer, vae, folder.config.scheduler, notes).to(torch.device(device))


def save_cogvideox(model: CogVideoX, path: Path) -> None:
    """Writes a model in diffusers' layout, whole or not at all.

    Raises:
        OutputError: the folder exists or can't be written.
    """
    save_folder(
        path,
        {"transformer": model.denoiser.model, "vae": model.vae.model},
        {"_class_name": "CogVideoXDPMScheduler", **model.config.scheduler},
        {
            "_class_name": f"CogVideoX{'ImageToVideo' if model.config.sees_photo else ''}Pipeline",
            "scheduler": ["diffusers", "CogVideoXDPMScheduler"],
            "transformer": ["diffusers", TRANSFORMER],
            "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        },
    )
