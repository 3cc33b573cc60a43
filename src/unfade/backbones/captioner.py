"""Vision-language models that say what is in a photo: found on this machine, loaded when asked, never downloaded."""

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.hub import cached, is_hub_id, missing_weights
from unfade.core import ModelError
from unfade.prompts.captions import KeptCaptions, default_captions
from unfade.prompts.measured import MeasuredCaptioner
from unfade.prompts.progressive import Task
from unfade.prompts.scene import Captioner, instruction

# Room for what is seen, 45 words of prompt, and what a talkative model adds to them.
_TOKENS = 192
# Of a caption alone.
_CAPTION = 64


@dataclass(frozen=True, slots=True)
class CaptionerInfo:
    """A captioner one can name.

    Attributes:
        name: what the user types.
        hub_id: "owner/model".
        parameters: in billions.
        licence: of the weights; the card on the hub has the last word.
        advice: what it is for.
    """

    name: str
    hub_id: str
    parameters: float
    licence: str
    advice: str


CAPTIONERS: dict[str, CaptionerInfo] = {
    info.name: info
    for info in (
        CaptionerInfo(
            "qwen3-vl-4b",
            "Qwen/Qwen3-VL-4B-Instruct",
            4.4,
            "Apache-2.0",
            "follows the rules best; the default model",
        ),
        CaptionerInfo(
            "llava-onevision-7b",
            "llava-hf/llava-onevision-qwen2-7b-ov-hf",
            8.0,
            "Apache-2.0",
            "the family the paper used",
        ),
        CaptionerInfo(
            "llava-onevision-0.5b",
            "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
            0.9,
            "Apache-2.0",
            "small; breaks the rules more often",
        ),
        CaptionerInfo(
            "blip",
            "Salesforce/blip-image-captioning-large",
            0.5,
            "BSD-3-Clause",
            "captions only; the goal is added",
        ),
    )
}
DEFAULT = "qwen3-vl-4b"
AUTO = "auto"
# What the processor of `DEFAULT` is made of.
_LIBRARIES = ("transformers", "torchvision", "PIL")


class LanguageCaptioner:
    """A captioner made of an image-text-to-text model in transformers' folder layout.

    Loaded at the first picture, greedy, so the same picture gets the same words. A model with a chat template is
    given the instruction of the task; one without says what it sees.

    Attributes:
        folder: of the model.
        name: for messages.
        device, dtype: where and in what precision it computes; None for bfloat16 on a GPU, float32 on a CPU.
    """

    def __init__(
        self, folder: Path, name: str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        self.folder = folder
        self.name = name
        self.device = torch.device(device)
        self.dtype = dtype or (torch.float32 if self.device.type == "cpu" else torch.bfloat16)
        self.instructed = _has_chat_template(folder)
        self._model: Any = None
        self._processor: Any = None

    @property
    def identity(self) -> str:
        """Of its files' names and sizes, its configuration, and what it is told."""
        digest = hashlib.sha256(
            json.dumps([instruction(task) for task in ("resolution", "blur", "lowlight")]).encode()
        )
        for path in sorted(self.folder.glob("*")):
            if path.is_file() and path.suffix in (".json", ".jinja"):
                digest.update(path.read_bytes())
            elif path.suffix == ".safetensors":
                digest.update(f"{path.name} {path.stat().st_size}".encode())
        return digest.hexdigest()

    def __call__(self, picture: Tensor, task: Task) -> str:
        """What the model says of `picture` `[3, H, W]` in [0, 1].

        Raises:
            ModelError: files of the model are missing or damaged, or it needs a library that isn't installed.
        """
        model, processor = self._loaded()
        image = _as_image(picture)
        if self.instructed:
            asked = [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": instruction(task)}]}
            ]
            text = processor.apply_chat_template(asked, add_generation_prompt=True)
            inputs = processor(images=image, text=text, return_tensors="pt")
        else:
            inputs = processor(images=image, return_tensors="pt")
        inputs = inputs.to(self.device, self.dtype)
        with torch.inference_mode():
            room = _TOKENS if self.instructed else _CAPTION
            made = model.generate(**inputs, max_new_tokens=room, do_sample=False)
        if self.instructed and not model.config.is_encoder_decoder:
            made = made[:, inputs["input_ids"].shape[1] :]
        return processor.batch_decode(made, skip_special_tokens=True)[0].strip()

    def unload(self) -> None:
        """Lets go of the weights; the next picture loads them again."""
        self._model = self._processor = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _loaded(self) -> tuple[Any, Any]:
        if self._model is None:
            self._model, self._processor = _load(self.folder, self.name, self.device, self.dtype)
        return self._model, self._processor


def open_captioner(model: str | Path, device: torch.device | str = "cpu") -> LanguageCaptioner:
    """A captioner by name, hub id or folder; nothing is loaded yet and the network is never asked.

    Raises:
        ModelError: the name is unknown, the model is not on this machine, or transformers is not installed.
    """
    name, path = str(model), Path(model)
    info = CAPTIONERS.get(name.lower())
    if info is None and not path.is_dir() and not is_hub_id(name):
        raise ModelError(
            f"unknown captioner {name!r}; there is rules (needs no model), {', '.join(CAPTIONERS)}, or name a "
            "model folder"
        )
    if find_spec("transformers") is None:
        raise ModelError(
            f"the captioner {name} needs more than is installed: pip install '.[captions]' in the clone of unfade"
        )
    hub_id = info.hub_id if info else name
    folder = path if info is None and path.is_dir() else cached(hub_id)
    if folder is None:
        raise ModelError(
            f"the captioner {name} is not on this machine; get it with hf download {hub_id}, name its folder, or use "
            "the captioner rules, which needs no model"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is not a captioner: it has no config.json; name a folder in transformers' layout"
        )
    return LanguageCaptioner(folder, name, device)


def choose_captioner(
    model: str | Path = AUTO, device: torch.device | str = "cpu", captions: Path | None = None
) -> Captioner:
    """Who says what is in a photo; what a model says is kept. Nothing is loaded yet and the network is never asked.

    Args:
        model: "rules", which needs no model; "auto", which is `DEFAULT` where that lies whole in the hub's cache and
            what it needs is installed, else the rules; or as `open_captioner` takes it.
        device: where a model computes.
        captions: folder in which captions are kept; the user's cache by default.

    Raises:
        ModelError: as `open_captioner`.
    """
    name = str(model)
    if name == AUTO:
        name = DEFAULT if _is_here(CAPTIONERS[DEFAULT]) else MeasuredCaptioner.name
    if name == MeasuredCaptioner.name:
        return MeasuredCaptioner()
    return KeptCaptions(open_captioner(name, device), captions or default_captions())


def work_on(captioner: Captioner, device: torch.device) -> None:
    """Has a captioner that is a model work on a device, in the precision it takes there; others stay as they are."""
    model = captioner.captioner if isinstance(captioner, KeptCaptions) else captioner
    if isinstance(model, LanguageCaptioner) and model.device.type != device.type:
        model.unload()
        model.device = device
        model.dtype = torch.float32 if device.type == "cpu" else torch.bfloat16


def _is_here(info: CaptionerInfo) -> bool:
    """Whether a captioner was downloaded to its end and can be used."""
    folder = cached(info.hub_id)
    whole = folder is not None and (folder / "config.json").is_file() and not missing_weights(folder, "model")
    return whole and all(find_spec(module) is not None for module in _LIBRARIES)


def _load(folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has no weights in safetensors, the only kind that is read; get the model again"
        )
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
    except ImportError as error:
        library = "torchvision" if "torchvision" in str(error).lower() else "more than is installed"
        raise ModelError(
            f"the captioner {name} needs {library}: pip install '.[captions]' in the clone of unfade"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} is not a whole image-text-to-text model of transformers; get its files again or name another"
        ) from error
    return model.eval().to(device), processor


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        return "chat_template" in json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _as_image(picture: Tensor) -> Any:
    from PIL import Image

    pixels = (
        picture.detach().cpu().mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    )
    return Image.fromarray(pixels)
