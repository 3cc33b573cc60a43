"""Prompts for video models: embedded once and then read from disk, so that the 10 GB encoder is not needed again."""

import hashlib
import html
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from unfade.backbones.free_memory import free_bytes, out_of_memory, usable
from unfade.core import ModelError
from unfade.media.atomic import atomic_output

_HOST = torch.device("cpu")
_SAMPLE = 1 << 20
_WORDS = ("tokenizer.json", "spiece.model", "tokenizer_config.json", "special_tokens_map.json")


class Embed(Protocol):
    """Prompts to embeddings `[1, L, D]`."""

    def __call__(self, prompts: Sequence[str], device: torch.device) -> list[Tensor]: ...


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """How a family of models reads prompts.

    Attributes:
        kind: transformers' class of the encoder.
        masked: whether padding is hidden from the encoder and embedded as zeros; otherwise it is embedded like words.
        cleaned: whether HTML entities are resolved and white space is collapsed before.
    """

    kind: Literal["UMT5EncoderModel", "T5EncoderModel"]
    masked: bool
    cleaned: bool


# Wan's, and CogVideoX's.
UMT5 = TextEncoder("UMT5EncoderModel", masked=True, cleaned=True)
T5 = TextEncoder("T5EncoderModel", masked=False, cleaned=False)


def default_cache() -> Path:
    """Where embeddings are kept unless told otherwise: `unfade/prompts` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unfade" / "prompts"


class PromptEmbeddings:
    """Embeddings of prompts by the text encoder of a model folder, kept on disk.

    A file's name is the hash of encoder, tokenizer, length and prompt, so another encoder never gets these
    embeddings. A damaged file is made again. Once the prompts in use are kept, the folder's `text_encoder/` may
    be deleted: which encoder it was is kept as well.

    Attributes:
        folder: of the model, with `text_encoder/` and `tokenizer/` in it.
        cache: where the embeddings are kept.
        length: tokens a prompt is cut or padded to.
        dtype: in which the encoder computes.
        encoder: how the model reads prompts.
        loads: how often the encoder was loaded so far.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path | None = None,
        length: int = 512,
        dtype: torch.dtype = torch.bfloat16,
        encoder: TextEncoder = UMT5,
    ) -> None:
        self.folder = folder
        self.cache = cache or default_cache()
        self.length = length
        self.dtype = dtype
        self.encoder = encoder
        self.loads = 0
        self._encoder_hash: str | None = None
        self._tokenizer: Any = None

    def __call__(self, prompts: Sequence[str], device: torch.device) -> list[Tensor]:
        """One `[1, length, D]` for each prompt; where padding is hidden, zero beyond its last token.

        Args:
            prompts: any number of them.
            device: where the encoder computes if need be, and where the embeddings are wanted.

        Raises:
            ModelError: an embedding is missing and the encoder is missing or damaged.
            OutputError: an embedding can't be kept.
        """
        prompts = [self._cleaned(prompt) for prompt in prompts]
        found = {prompt: self._kept(prompt) for prompt in prompts}
        self.prepare([prompt for prompt, embedding in found.items() if embedding is None], device)
        found = {prompt: self._kept(prompt) if kept is None else kept for prompt, kept in found.items()}
        return [self._padded(found[prompt]).to(device) for prompt in prompts]

    def prepare(self, prompts: Iterable[str], device: torch.device) -> None:
        """Embeds prompts that aren't kept yet, any number of them, one after another on disk.

        Args:
            prompts: in use from now on.
            device: where the encoder computes if need be.

        Raises:
            ModelError: an embedding is missing and the encoder is missing or damaged.
            OutputError: an embedding can't be kept.
        """
        wanted = dict.fromkeys(self._cleaned(prompt) for prompt in prompts)
        if missing := [prompt for prompt in wanted if self._kept(prompt) is None]:
            for prompt, embedding in self._encoded(missing, device):
                self._keep(prompt, embedding)

    def count(self, prompt: str) -> int:
        """How many tokens the encoder's tokenizer makes of a prompt, its end mark included.

        Raises:
            ModelError: the tokenizer is missing or damaged.
        """
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self.folder)
        return len(self._tokenizer(self._cleaned(prompt), add_special_tokens=True)["input_ids"])

    def path(self, prompt: str) -> Path:
        """The file that keeps a prompt's embedding."""
        parts = (self._encoder(), str(self.length), str(self.dtype), self._cleaned(prompt))
        return self.cache / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.safetensors"

    @property
    def knows_its_encoder(self) -> bool:
        """Whether this folder's encoder was used before, so that the kept embeddings do without it."""
        return self._note().is_file()

    def _cleaned(self, prompt: str) -> str:
        return _cleaned(prompt) if self.encoder.cleaned else prompt

    def _encoder(self) -> str:
        if self._encoder_hash is None:
            there = any((self.folder / "text_encoder").glob("*.safetensors"))
            known = None if there or not self._note().is_file() else self._note().read_text()
            self._encoder_hash = known or _encoder_hash(self.folder)
        return self._encoder_hash

    def _note(self) -> Path:
        """The file that keeps which encoder this folder had."""
        return self.cache / f"{hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()}.encoder"

    def _kept(self, prompt: str) -> Tensor | None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path(prompt)
        if not path.is_file():
            return None
        try:
            return load_file(path)["embedding"]
        except (SafetensorError, OSError, KeyError):
            return None

    def _keep(self, prompt: str, embedding: Tensor) -> None:
        from safetensors.torch import save

        data = save({"embedding": embedding.contiguous()}, {"prompt": prompt, "encoder": self._encoder()})
        with atomic_output(self.path(prompt)) as temporary:
            temporary.write_bytes(data)
        with atomic_output(self._note()) as temporary:
            temporary.write_text(self._encoder())

    def _padded(self, embedding: Tensor | None) -> Tensor:
        if embedding is None:
            raise ModelError(f"{self.cache} does not keep what is written there; name another cache folder")
        padded = embedding.new_zeros(1, self.length, embedding.shape[1])
        padded[0, : embedding.shape[0]] = embedding
        return padded

    def _encoded(self, prompts: Sequence[str], device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Prompts that aren't on disk with their embeddings `[tokens, D]`; the encoder is let go of afterwards.

        Where the device has no room for the encoder beside what is there, it computes on the host.
        """
        tokenizer, encoder = self._loaded()
        self.loads += 1
        needs = sum(one.numel() * one.element_size() for one in encoder.parameters())
        if device != _HOST and needs > usable(free := free_bytes(device)):
            _say(
                f"the text encoder needs {needs / 1e9:.1f} GB of {free / 1e9:.1f} GB free; it computes on the CPU"
            )
            device = _HOST
        done = 0
        try:
            for pair in self._states(tokenizer, encoder.to(device), prompts, device):
                yield pair
                done += 1
            return
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if device == _HOST or not out_of_memory(error):
                raise
        # Outside of the except clause, so that nothing of the first try is held by its traceback.
        _say("memory ran out for the text encoder; it computes on the CPU")
        encoder.to(_HOST)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        yield from self._states(tokenizer, encoder, prompts[done:], _HOST)

    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and encoder, on the host."""
        import transformers
        from safetensors import SafetensorError

        tokenizer = _tokenizer(self.folder)
        try:
            with _quiet_transformers():
                encoder = getattr(transformers, self.encoder.kind).from_pretrained(
                    self.folder / "text_encoder",
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=self.dtype,
                )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(_lacking(self.folder)) from error
        return tokenizer, encoder.eval()

    def _states(
        self, tokenizer: Any, encoder: Any, prompts: Sequence[str], device: torch.device
    ) -> Iterator[tuple[str, Tensor]]:
        """Prompts with their embeddings `[tokens, D]`, on the host, by an encoder that is on the device."""
        for prompt in prompts:
            tokens = tokenizer(
                prompt,
                padding="max_length",
                max_length=self.length,
                truncation=True,
                add_special_tokens=True,
                return_attention_mask=True,
                return_tensors="pt",
            )
            mask = tokens["attention_mask"].to(device) if self.encoder.masked else None
            with torch.inference_mode():
                states = encoder(tokens["input_ids"].to(device), mask).last_hidden_state
            used = self.length if mask is None else int(mask.sum())
            yield prompt, states[0, :used].cpu().clone()


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without a progress bar of its own on stderr."""
    from transformers.utils import logging as told

    before = told.is_progress_bar_enabled()
    told.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            told.enable_progress_bar()


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(_lacking(folder)) from error


def _lacking(folder: Path) -> str:
    return (
        f"{folder} lacks a whole text encoder (text_encoder/ and tokenizer/, safetensors only), which is needed for "
        "prompts that were never used before; get these two folders again"
    )


def _say(line: str) -> None:
    logging.getLogger("unfade").warning(line)


def _cleaned(prompt: str) -> str:
    """As diffusers does it: HTML entities resolved twice, white space collapsed."""
    return " ".join(html.unescape(html.unescape(prompt)).split())


def _encoder_hash(folder: Path) -> str:
    """Of what decides an embedding: configuration, words, and of each weight file its name, size, start and end.

    Hashing all 11 GB would take longer than most restorations.
    """
    encoder, tokenizer = folder / "text_encoder", folder / "tokenizer"
    try:
        digest = hashlib.sha256((encoder / "config.json").read_bytes())
        for path in (tokenizer / name for name in _WORDS):
            digest.update(path.read_bytes() if path.is_file() else b"\0")
        for path in sorted(encoder.glob("*.safetensors")):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(_SAMPLE))
                file.seek(max(0, size - _SAMPLE))
                digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise ModelError(
            f"{folder} has no text encoder that can be read (text_encoder/config.json); get the model again"
        ) from error
    return digest.hexdigest()
