"""Shared by all rooms: one thread (so that results repeat) and the folders that only some machines have."""

import subprocess
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import forked

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.option.collectonly and any("forkserver" in i.fixturenames for i in session.items):  # type: ignore[attr-defined]
        forked.forkserver()


@pytest.fixture(scope="session")
def forkserver() -> ForkServerContext:
    """A context for processes that have everything imported; the server begins to import when tests were collected."""
    return forked.forkserver()


@pytest.fixture
def forked_pickles(forkserver: ForkServerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles are opened by processes forked with torch imported; tests without this begin new ones, as users do."""
    from unfade.backbones import unpickled

    def run(command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        process = forkserver.Process(target=forked.open_pickle, args=command[-2:])
        process.start()
        process.join()
        assert process.exitcode is not None, "it has ended"
        return subprocess.CompletedProcess(command, process.exitcode, "", "")

    monkeypatch.setattr(unpickled.subprocess, "run", run)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def examples() -> Path:
    """The example photos that ship with the project."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Benchmarks, training photos and clips, which aren't on a user's machine."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the benchmark and training photos are not on this machine")
    return folder


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model in diffusers' layout, as small as it gets: Wan with random weights, text encoder, tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    from unfade.backbones.wan import build_wan
    from unfade.backbones.wan_config import SMALL
    from unfade.backbones.wan_folder import save_wan

    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(11)
    save_wan(build_wan(SMALL), folder)
    tokenizer = Tokenizer(
        models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "restoration": 3}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    config = UMT5Config(vocab_size=4, d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def cogvideox_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of CogVideoX1.5, with a T5."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    from unfade.backbones.cogvideox import build_cogvideox
    from unfade.backbones.cogvideox_config import SMALL_1_5
    from unfade.backbones.cogvideox_folder import save_cogvideox

    folder = tmp_path_factory.mktemp("models") / "small-cogvideox"
    torch.manual_seed(12)
    save_cogvideox(build_cogvideox(SMALL_1_5), folder)
    words = ["<pad>", "</s>", "<unk>", "sharp", "dark", "bright", "Nothing", "moves.", "Static", "image."]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    config = T5Config(
        vocab_size=len(words), d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def stock_pipeline() -> Callable[[Any], Any]:
    """diffusers' own image-to-video pipeline around the parts of a `Wan`, without its text encoder."""

    def build(wan: Any) -> Any:
        from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline

        stock = WanImageToVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=wan.vae.model,
            scheduler=UniPCMultistepScheduler.from_config(dict(wan.config.scheduler)),
            transformer=wan.denoiser.model,
            expand_timesteps=True,
        )
        stock.set_progress_bar_config(disable=True)
        return stock

    return build
