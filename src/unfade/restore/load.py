"""From a model's name, file or folder to a restorer."""

from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unfade.backbones.catalog import CATALOG, find
from unfade.backbones.info import BackboneInfo
from unfade.backbones.tiny_weights import load_tiny
from unfade.backbones.video import open_video
from unfade.backbones.video_captioner import AUTO, choose_video_captioner
from unfade.backbones.wan_family import REFUSED
from unfade.core import ModelError, UsageError
from unfade.restore.adapters import Adapters
from unfade.restore.device import choose_device
from unfade.restore.engine import PixelRestorer
from unfade.restore.latent import LatentRestorer
from unfade.restore.placement import Room
from unfade.restore.systems import KNOWN, settings_for
from unfade.restore.text_protection import Masks
from unfade.restore.vivid_restorer import VividRestorer
from unfade.restore.vividvr import vivid_settings

# What a name that ends so is meant to be, whether it is there or not.
_FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
# Settings whose options are called otherwise.
_OPTIONS = {"frames": "clip-frames", "dynamic": "dynamic-guidance"}

Loaded = PixelRestorer | LatentRestorer | VividRestorer


def load(
    model: str | Path = "tiny",
    *,
    preset: str | None = None,
    adapter: str | Path | None = None,
    drift_adapter: str | Path | None = None,
    memory: str | None = None,
    vae_tiles: str | None = None,
    control: str | Path | None = None,
    captioner: str | Path | None = None,
    trust_remote_code: bool = False,
    protect: str | Path | Masks | None = None,
    **sampling: Any,
) -> Loaded:
    """A restorer for a model of the catalog, for a `.safetensors` file of `tiny`'s kind, or for a model folder.

    Nothing is downloaded: a video model must lie in the hub's cache (`unfade models download`) or in a folder.

    Args:
        model: a name or alias, a hub id that was downloaded before, a file, or a folder in diffusers' layout.
        preset: "paper" (the default) or, of V-Bridge, "release"; of video models.
        adapter: the trained adapter of a video model.
        drift_adapter: that of its drift correction.
        memory, vae_tiles: how a video model's weights are kept (`Room`).
        control: folder of Vivid-VR's control, for a text-to-video model and footage.
        captioner: who says what is in the picture where no prompt does, of Progressive and Vivid-VR: "auto" (the
            default, the best that is on this machine: see `choose_captioner` and
            `choose_video_captioner`), "rules" or a model.
        trust_remote_code: whether the published captioner may run the Python code it brings.
        protect: masks of what footage keeps under control, such as text: a picture, a folder or a video, or whatever
            gives the mask of a frame, such as `DetectedMasks` of a detector.
        sampling: fields of `VBridgeSettings` or `ProgressiveSettings` (with `control`, of
            `VividSettings`) by name that differ from the preset, of video
            models; the model's family decides which of the two.

    Raises:
        ModelError: the name is unknown, the model is not on this machine, or its files can't be used.
        UsageError: a setting is unknown, out of range, or one that this kind of model has no use for.
    """
    info, path = located(model)
    asked = {
        "preset": preset,
        "adapter": adapter,
        "drift_adapter": drift_adapter,
        "memory": memory,
        "vae_tiles": vae_tiles,
        **sampling,
    }
    if control is not None:
        given = [name for name in ("preset", "adapter", "drift_adapter") if asked[name] is not None]
        if given:
            raise UsageError(f"Vivid-VR has no use for {given[0].replace('_', '-')}; leave it out")
        room, looks = _room(memory, vae_tiles), captioner or AUTO
        return _controlled(info, path, Path(control), looks, trust_remote_code, protect, room, sampling)
    of_footage = {"trust-remote-code": trust_remote_code or None, "protect": protect}
    for name, given in of_footage.items():
        if given is not None:
            raise UsageError(
                f"--{name} is for footage under Vivid-VR's control; add --control, or leave it out"
            )
    if captioner is not None:
        sampling = {**sampling, "captioner": captioner}
    if path.is_dir():
        check_extra(str(model))
        config = open_video(path).config
        settings = settings_for(config, preset or "paper", sampling)
        if drift_adapter is not None and settings.drift == "never" and "drift" not in sampling:
            raise UsageError(f"{model} has no drift correction; leave --drift-adapter out")
        given = (None if one is None else Path(one) for one in (adapter, drift_adapter))
        name = info.name if info else None
        return LatentRestorer.of_folder(
            path, settings, name=name, adapters=Adapters(*given), room=_room(memory, vae_tiles)
        )
    used = [name for name, value in {**asked, "captioner": captioner}.items() if value is not None]
    for name in used:
        if name not in ("preset", "adapter", "drift_adapter", *KNOWN):
            raise UsageError(f"{name!r} is no setting of any model; see VBridgeSettings")
    restorer = PixelRestorer(info.name if info else path.name, load_tiny(path))
    if used:
        told = ", ".join(_OPTIONS.get(name, name.replace("_", "-")) for name in used)
        raise UsageError(f"{restorer.name} has no use for {told}, which is of video models; leave it out")
    return restorer


def _controlled(
    info: BackboneInfo | None,
    path: Path,
    control: Path,
    captioner: str | Path,
    trust_remote_code: bool,
    protect: str | Path | Masks | None,
    room: Room,
    sampling: Mapping[str, Any],
) -> VividRestorer:
    if not path.is_dir():
        raise UsageError(
            f"{path.name} can't be controlled; --control goes with CogVideoX1.5-5B (--model vivid-vr)"
        )
    check_extra(path.name)
    settings = vivid_settings(sampling)
    name = info.name if info else None
    says = choose_video_captioner(captioner, choose_device("auto"), trust_remote_code=trust_remote_code)
    masks = Path(protect) if isinstance(protect, (str, Path)) else protect
    return VividRestorer.of_folders(
        path, control, settings, name=name, captioner=says, masks=masks, room=room
    )


def _room(memory: str | None, vae_tiles: str | None) -> Room:
    return Room(memory or "auto", vae_tiles or "auto")  # type: ignore[arg-type]


def located(model: str | Path) -> tuple[BackboneInfo | None, Path]:
    """What the catalog says of a model, if it is there, and the file or folder of its weights.

    Raises:
        ModelError: the name is unknown, can't be used, or the model is not on this machine.
    """
    name, path = str(model), Path(model)
    info = find(name)
    if info is not None and info.space == "pixels":
        return info, Path(str(files("unfade.backbones"))) / info.weights
    if info is None and (path.exists() or path.suffix in _FILES):
        return None, path
    check_usable(name)
    from unfade.backbones.hub import cached, is_hub_id

    hub_id = info.weights if info else name
    if info is None and not is_hub_id(name):
        raise ModelError(
            f"unknown model {name!r}; there is {', '.join(CATALOG)}, or name a .safetensors file or a model folder"
        )
    check_extra(name)
    folder = cached(hub_id)
    if folder is None:
        raise ModelError(
            f"{name} is not on this machine; get it with unfade models download {name}, or name its folder"
        )
    return info, folder


def check_usable(name: str) -> None:
    """Whether a name is not that of a model which is known not to fit.

    Raises:
        ModelError: it is; the sentence says why.
    """
    if why := REFUSED.get(name.lower().removeprefix("wan-ai/").removesuffix("-diffusers")):
        raise ModelError(f"{name} can't restore: {why}; use wan2.2-ti2v-5b")


def check_extra(name: str) -> None:
    """Whether the libraries that video models need are installed.

    Raises:
        ModelError: they aren't; the sentence says how to get them.
    """
    if find_spec("diffusers") is None or find_spec("transformers") is None:
        raise ModelError(
            f"{name} needs more than is installed: pip install '.[models]' in the clone of unfade"
        )
