"""Vision-language models that say what is in footage: found on this machine, loaded when asked, never downloaded."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.captioner import CAPTIONERS, CaptionerInfo, LanguageCaptioner, open_captioner
from unfade.backbones.hub import cached, missing_weights
from unfade.core import ModelError
from unfade.prompts.captions import default_captions, remembered
from unfade.prompts.footage import FootageCaptioner, FootageRules, check_frames
from unfade.prompts.vividvr import INSTRUCTION, QUERY

# Room for 90 words and what a talkative model adds to them.
_TOKENS = 256
# What the published captioner is given.
_PUBLISHED_TOKENS, _PUBLISHED_PAD = 2048, 128002
# Processors are told frames by a clock that ticks so often a second.
_TICKS = 1000

PUBLISHED = CaptionerInfo(
    "cogvlm2-caption",
    "THUDM/cogvlm2-llama3-caption",
    12.5,
    "CogVLM2 and Llama 3 licences",
    "the one that Vivid-VR was published with; runs code of its own",
)
VIDEO_CAPTIONERS: dict[str, CaptionerInfo] = {
    info.name: info for info in (*(info for info in CAPTIONERS.values() if info.name != "blip"), PUBLISHED)
}
DEFAULT = "qwen3-vl-4b"
AUTO = "auto"
# What the processor of `DEFAULT` is made of.
_LIBRARIES = ("transformers", "torchvision", "PIL")


class VideoCaptioner(LanguageCaptioner):
    """A captioner of footage made of an image-text-to-text model in transformers' folder layout.

    A model whose processor takes footage is shown the frames with their times; another one is shown as many pictures;
    one without a chat template, which says what it sees and no more, the frame in the middle.

    Attributes:
        query: what it is asked.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        query: str = INSTRUCTION,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(folder, name, device, dtype)
        self.query = query

    def describe(self, frames: Tensor, times: Sequence[float]) -> str:
        """What the model says of `frames` `[T, 3, H, W]` in [0, 1], shown at `times` in seconds.

        Raises:
            ModelError: files of the model are missing or damaged, or it needs a library that isn't installed.
            ValueError: frames and times don't fit together.
        """
        check_frames(frames, times)
        model, processor = self._loaded()
        inputs = self._asked(processor, _bytes(frames), times).to(self.device, self.dtype)
        with torch.inference_mode():
            made = model.generate(**inputs, max_new_tokens=_TOKENS, do_sample=False)
        if self.instructed and not model.config.is_encoder_decoder:
            made = made[:, inputs["input_ids"].shape[1] :]
        return " ".join(processor.batch_decode(made, skip_special_tokens=True)[0].split())

    def _asked(self, processor: Any, frames: Tensor, times: Sequence[float]) -> Any:
        """What goes into the model for frames `[T, 3, H, W]` of bytes."""
        if not self.instructed:
            return processor(images=_picture(frames[len(frames) // 2]), return_tensors="pt")
        # A single frame is no footage: some processors refuse it.
        footage = len(frames) > 1 and getattr(processor, "video_processor", None) is not None
        shown = [{"type": "video"}] if footage else [{"type": "image"}] * len(frames)
        message = {"role": "user", "content": [*shown, {"type": "text", "text": self.query}]}
        text = processor.apply_chat_template([message], add_generation_prompt=True)
        if not footage:
            return processor(images=[_picture(frame) for frame in frames], text=text, return_tensors="pt")
        # Qwen3-VL's own bound of tokens a frame, which transformers leaves open until it is chosen.
        if getattr(processor.video_processor, "cap_pixels_per_frame", True) is None:
            processor.video_processor.cap_pixels_per_frame = True
        ticks = [round(time * _TICKS) for time in times]
        clock = {"fps": _TICKS, "frames_indices": ticks, "total_num_frames": ticks[-1] + 1}
        return processor(
            videos=[frames], text=[text], video_metadata=[clock], do_sample_frames=False, return_tensors="pt"
        )


class CogVLMCaptioner:
    """CogVLM2-Video as Vivid-VR uses it. It is the Python code in the model's own folder that is run.

    Attributes:
        folder: of the model.
        name: for messages.
        query: what it is asked; the published sentence.
        device, dtype: where and in what precision it computes; None for bfloat16 on a GPU, float32 on a CPU.

    Source: Vivid-VR (arXiv 2508.14483), released code.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        query: str = QUERY,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.folder = folder
        self.name = name
        self.query = query
        self.device = torch.device(device)
        self.dtype = dtype or (torch.float32 if self.device.type == "cpu" else torch.bfloat16)
        self._model: Any = None
        self._tokenizer: Any = None

    @property
    def identity(self) -> str:
        """Of its files' names and sizes, its configuration and its code."""
        digest = hashlib.sha256(LanguageCaptioner(self.folder, self.name).identity.encode())
        for path in sorted(self.folder.glob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def describe(self, frames: Tensor, times: Sequence[float]) -> str:
        """What the model says of `frames` `[T, 3, H, W]` in [0, 1]; it is told their order, never their times.

        Raises:
            ModelError: files are missing or damaged, or the model's code fails here.
            ValueError: frames and times don't fit together.
        """
        check_frames(frames, times)
        # What lies in the folder is anybody's code and may fail in any way.
        try:
            if self._model is None:
                self._model, self._tokenizer = self._load()
            return self._said(frames)
        except (ModelError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            from transformers import __version__

            told = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise ModelError(
                f"the code in {self.folder} fails ({told}); it was written for transformers 4.42 and this is "
                f"{__version__}; use the captioner {DEFAULT}, or rules"
            ) from error

    def unload(self) -> None:
        """Lets go of the weights; the next footage loads them again."""
        self._model = self._tokenizer = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _said(self, frames: Tensor) -> str:
        video = _bytes(frames).transpose(0, 1).float()
        asked = self._model.build_conversation_input_ids(
            tokenizer=self._tokenizer, query=self.query, images=[video], history=[], template_version="chat"
        )
        names = ("input_ids", "token_type_ids", "attention_mask")
        inputs: dict[str, Any] = {name: asked[name][None].to(self.device) for name in names}
        inputs["images"] = [[asked["images"][0].to(self.device, self.dtype)]]
        with torch.inference_mode():
            made = self._model.generate(
                **inputs, max_new_tokens=_PUBLISHED_TOKENS, pad_token_id=_PUBLISHED_PAD, do_sample=False
            )
        said = self._tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return " ".join(said.split())

    def _load(self) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if not any(self.folder.glob("*.safetensors")):
            raise ModelError(
                f"{self.folder} has no weights in safetensors, the only kind that is read; get the model again"
            )
        tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            self.folder, local_files_only=True, use_safetensors=True, dtype=self.dtype, trust_remote_code=True
        )
        return model.eval().to(self.device), tokenizer


def open_video_captioner(
    model: str | Path = DEFAULT,
    device: torch.device | str = "cpu",
    *,
    query: str | None = None,
    trust_remote_code: bool = False,
) -> VideoCaptioner | CogVLMCaptioner:
    """A captioner of footage by name, hub id or folder; nothing is loaded yet and the network is never asked.

    Args:
        model: its name, hub id or folder; CogVLM2-caption by its folder only.
        device: where it computes.
        query: what it is asked; each kind's own where None.
        trust_remote_code: whether the Python code in CogVLM2-caption's folder may be run. No other model's ever is.

    Raises:
        ModelError: the name is unknown, the model is not on this machine, it brings code that may not be run, or
            transformers is not installed.
    """
    name, path = str(model), Path(model)
    if name.lower() in (PUBLISHED.name, PUBLISHED.hub_id.lower()) and not path.is_dir():
        raise ModelError(
            f"the captioner {PUBLISHED.name} runs Python code of its own and is used by its folder only; get it with "
            f"hf download {PUBLISHED.hub_id}, read its code, name its folder and allow it with --trust-remote-code"
        )
    found = open_captioner(model, device)
    if not _is_cogvlm(found.folder):
        return VideoCaptioner(found.folder, found.name, query or INSTRUCTION, device)
    if not (trust_remote_code and path.is_dir()):
        raise ModelError(
            f"{found.folder} brings Python code of its own, which is run only where that is allowed; read it, name its "
            f"folder and allow it with --trust-remote-code, or use the captioner {DEFAULT}, or rules"
        )
    return CogVLMCaptioner(found.folder, found.name, query or QUERY, device)


def choose_video_captioner(
    model: str | Path = AUTO,
    device: torch.device | str = "cpu",
    *,
    trust_remote_code: bool = False,
    captions: Path | None = None,
) -> FootageCaptioner:
    """Who says what is in footage; what a model says is kept. Nothing is loaded yet and the network is never asked.

    Args:
        model: "auto", "rules" or as `open_video_captioner` takes it. "auto" is the best that this machine has: in the
            hub's cache, the published captioner, if its code may be run, or `DEFAULT`, each if it is whole and what it
            needs is installed; else the rules.
        device: where a model computes.
        trust_remote_code: whether the Python code of CogVLM2-caption may be run.
        captions: folder in which captions are kept; the user's cache by default.

    Raises:
        ModelError: as `open_video_captioner`.
    """
    if str(model) == FootageRules.name:
        return FootageRules()
    found = (
        _best_here(device, trust_remote_code)
        if str(model) == AUTO
        else open_video_captioner(model, device, trust_remote_code=trust_remote_code)
    )
    return FootageRules() if found is None else KeptDescriptions(found, captions or default_captions())


def _best_here(
    device: torch.device | str, trust_remote_code: bool
) -> VideoCaptioner | CogVLMCaptioner | None:
    """A model that lies in the hub's cache and has all it needs; None if there is none."""
    if not _installed(_LIBRARIES[:1]):
        return None
    if trust_remote_code and (folder := _whole(PUBLISHED)) and _is_cogvlm(folder):
        from transformers.dynamic_module_utils import get_imports

        if all(_installed(get_imports(path)) for path in folder.glob("*.py")):
            return CogVLMCaptioner(folder, PUBLISHED.name, device=device)
    if (folder := _whole(VIDEO_CAPTIONERS[DEFAULT])) and _installed(_LIBRARIES):
        return VideoCaptioner(folder, DEFAULT, device=device)
    return None


def _whole(info: CaptionerInfo) -> Path | None:
    """The folder of a captioner that was downloaded to its end."""
    folder = cached(info.hub_id)
    if folder is None or not (folder / "config.json").is_file() or missing_weights(folder, "model"):
        return None
    return folder


def _installed(modules: Iterable[str]) -> bool:
    return all(find_spec(module) is not None for module in modules)


class KeptDescriptions:
    """A captioner of footage that remembers what it said, one small JSON file a piece of footage.

    A file's name is the hash of the frames' bytes and times, the captioner's identity and its query, so that neither
    changed footage nor another model nor another question ever gets an old caption. A damaged file is made again.

    Attributes:
        captioner: that looks at what isn't known.
        folder: of the files.
        made: how many captions were made so far.
    """

    def __init__(self, captioner: FootageCaptioner, folder: Path) -> None:
        self.captioner = captioner
        self.folder = folder
        self.made = 0

    @property
    def name(self) -> str:
        return self.captioner.name

    @property
    def identity(self) -> str:
        return self.captioner.identity

    @property
    def query(self) -> str:
        return self.captioner.query

    def describe(self, frames: Tensor, times: Sequence[float]) -> str:
        """As `FootageCaptioner.describe`.

        Raises:
            OutputError: the caption can't be kept.
        """
        caption, new = remembered(
            self.path(frames, times),
            lambda: self.captioner.describe(frames, times),
            {"captioner": self.name, "query": self.query, "times": list(times)},
        )
        self.made += new
        return caption

    def unload(self) -> None:
        """Lets go of the model behind it, if there is one; it comes back when it is asked again."""
        if (unload := getattr(self.captioner, "unload", None)) is not None:
            unload()

    def path(self, frames: Tensor, times: Sequence[float]) -> Path:
        """The file of one caption; frames are told apart as 8 bits show them, times to the millisecond."""
        ticks = [round(time * 1000) for time in times]
        parts = json.dumps([list(frames.shape), ticks, self.identity, self.query])
        digest = hashlib.sha256(parts.encode())
        for frame in frames:
            digest.update(_bytes(frame).contiguous().numpy().tobytes())
        return self.folder / f"{digest.hexdigest()}.json"


def _is_cogvlm(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return "auto_map" in config and any("CogVLM" in kind for kind in config["architectures"])
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _bytes(frames: Tensor) -> Tensor:
    return frames.detach().cpu().mul(255).round().clamp(0, 255).byte()


def _picture(frame: Tensor) -> Any:
    """Of bytes `[3, H, W]`."""
    from PIL import Image

    return Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
