"""The families of video models, told apart by what their folders say: opened, loaded, built and asked alike."""

from pathlib import Path

import torch

from unfade.backbones.cogvideox import CogVideoX, build_cogvideox
from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_folder import TRANSFORMER as COGVIDEOX
from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox, save_cogvideox
from unfade.backbones.model_folder import ModelFolder, transformer_class
from unfade.backbones.prompt_embeddings import T5, PromptEmbeddings
from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_folder import load_wan, open_wan, save_wan

VideoConfig = WanConfig | CogVideoXConfig
VideoModel = Wan | CogVideoX
VideoFolder = ModelFolder[WanConfig] | ModelFolder[CogVideoXConfig]


def open_video(path: Path, sees_photo: bool | None = True) -> VideoFolder:
    """Everything that can be known of a model folder to be wrong before weights are read.

    Args:
        path: of the folder.
        sees_photo: whether a model is wanted that restores photos by itself; None takes one that needs control as well.

    Raises:
        ModelError: the folder is missing or not a model of a known family, or can't restore.
    """
    return open_cogvideox(path, sees_photo) if transformer_class(path) == COGVIDEOX else open_wan(path)


def load_video(folder: VideoFolder, dtype: torch.dtype = torch.bfloat16) -> VideoModel:
    """The model of a folder, on the host; the VAE in fp32.

    Raises:
        ModelError: weights are missing, left over, of another shape or damaged.
    """
    if isinstance(folder.config, CogVideoXConfig):
        return load_cogvideox(ModelFolder(folder.path, folder.config, folder.files), dtype)
    return load_wan(ModelFolder(folder.path, folder.config, folder.files), dtype)


def save_video(model: VideoModel, path: Path) -> None:
    """Writes a model in diffusers' layout, whole or not at all.

    Raises:
        OutputError: the folder exists or can't be written.
    """
    if isinstance(model, CogVideoX):
        save_cogvideox(model, path)
    else:
        save_wan(model, path)


def build_video(config: VideoConfig, device: torch.device | str = "cpu") -> VideoModel:
    """A model with random weights in fp32; on the meta device it takes no memory."""
    if isinstance(config, CogVideoXConfig):
        return build_cogvideox(config, device)
    return build_wan(config, device)


def embeddings_of(folder: VideoFolder, cache: Path | None = None) -> PromptEmbeddings:
    """What embeds prompts as a folder's model wants them.

    Args:
        folder: with `text_encoder/` and `tokenizer/` beside the rest, unless all prompts are kept already.
        cache: where embeddings are kept.
    """
    if isinstance(folder.config, CogVideoXConfig):
        return PromptEmbeddings(folder.path, cache, folder.config.text_tokens, encoder=T5)
    return PromptEmbeddings(folder.path, cache)
