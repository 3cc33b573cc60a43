"""Prompts: a small UMT5 of the real class is loaded once, and answers as diffusers' pipeline does."""

import importlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from unfade.backbones.prompt_embeddings import PromptEmbeddings
from unfade.core import ModelError
from unfade.prompts.vbridge import NEGATIVE_PROMPT, PROMPT

CPU = torch.device("cpu")


def save_encoder(folder: Path, seed: int = 0) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    words = sorted({word for text in (PROMPT, NEGATIVE_PROMPT) for word in text.split()})
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=len(vocabulary), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3, dropout_rate=0.0
    )
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wan")
    save_encoder(path)
    return path


def embeddings(folder: Path, cache: Path, length: int = 128) -> PromptEmbeddings:
    return PromptEmbeddings(folder, cache, length, torch.float32)


def stock(folder: Path, prompt: str, length: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline
    from transformers import AutoTokenizer, UMT5EncoderModel

    from unfade.backbones.wan_config import SMALL

    # The pipeline repairs mis-decoded text by ftfy, if it is there, and fails if it isn't; ASCII needs no repair.
    module = importlib.import_module(WanImageToVideoPipeline.__module__)
    if not hasattr(module, "ftfy"):
        monkeypatch.setattr(module, "ftfy", SimpleNamespace(fix_text=str), raising=False)
    pipeline = WanImageToVideoPipeline(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder").eval(),
        vae=AutoencoderKLWan(**SMALL.vae),
        scheduler=UniPCMultistepScheduler(**SMALL.scheduler),
    )
    with torch.no_grad():
        return pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=length)[
            0
        ]


@pytest.mark.parametrize("length", [128, 20])
def test_embeddings_are_the_pipelines(
    folder: Path, tmp_path: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = embeddings(folder, tmp_path, length)([PROMPT, NEGATIVE_PROMPT], CPU)
    for prompt, embedding in zip((PROMPT, NEGATIVE_PROMPT), ours, strict=True):
        assert embedding.shape == (1, length, 24)
        torch.testing.assert_close(embedding, stock(folder, prompt, length, monkeypatch))
    used = len(PROMPT.split()) + 1
    if length > used:
        assert (ours[0][0, used:] == 0).all()
        assert (ours[0][0, :used].abs().sum(1) > 0).all()


def test_the_encoder_is_loaded_once_and_then_never(folder: Path, tmp_path: Path) -> None:
    first = embeddings(folder, tmp_path)
    made = first([PROMPT, NEGATIVE_PROMPT], CPU)
    assert first.loads == 1
    assert all(torch.equal(a, b) for a, b in zip(first([PROMPT, NEGATIVE_PROMPT], CPU), made, strict=True))
    assert first.loads == 1
    later = embeddings(folder, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(later([PROMPT, NEGATIVE_PROMPT], CPU), made, strict=True))
    assert torch.equal(later([f"  {PROMPT}\n"], CPU)[0], made[0])
    assert later.loads == 0
    later(["something new"], CPU)
    assert later.loads == 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".encoder", *[".safetensors"] * 3]


def test_another_encoder_length_or_precision_has_other_files(folder: Path, tmp_path: Path) -> None:
    save_encoder(tmp_path / "other", seed=1)
    paths = {
        embeddings(folder, tmp_path).path(PROMPT),
        embeddings(tmp_path / "other", tmp_path).path(PROMPT),
        embeddings(folder, tmp_path, 20).path(PROMPT),
        PromptEmbeddings(folder, tmp_path, 128, torch.bfloat16).path(PROMPT),
        embeddings(folder, tmp_path).path(NEGATIVE_PROMPT),
    }
    assert len(paths) == 5


def test_a_damaged_file_is_made_again(folder: Path, tmp_path: Path) -> None:
    made = embeddings(folder, tmp_path)([PROMPT], CPU)[0]
    path = embeddings(folder, tmp_path).path(PROMPT)
    path.write_bytes(path.read_bytes()[:-5])
    again = embeddings(folder, tmp_path)
    assert torch.equal(again([PROMPT], CPU)[0], made)
    assert again.loads == 1
    assert embeddings(folder, tmp_path)([PROMPT], CPU)[0].equal(made)


def test_a_missing_encoder_is_missed_only_for_new_prompts(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    made = embeddings(copy, tmp_path)([PROMPT], CPU)[0]
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(ModelError, match="lacks a whole text encoder"):
        embeddings(copy, tmp_path)([NEGATIVE_PROMPT], CPU)
    shutil.rmtree(copy / "text_encoder")
    assert torch.equal(embeddings(copy, tmp_path)([PROMPT], CPU)[0], made)
    with pytest.raises(ModelError, match="lacks a whole text encoder"):
        embeddings(copy, tmp_path)([NEGATIVE_PROMPT], CPU)
    with pytest.raises(ModelError, match="has no text encoder that can be read"):
        embeddings(copy, tmp_path / "empty")([PROMPT], CPU)


def test_a_pickled_encoder_is_not_opened(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = copy / "text_encoder" / "model.safetensors"
    torch.save({}, weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(ModelError, match="safetensors only"):
        embeddings(copy, tmp_path)([PROMPT], CPU)


def test_where_the_device_runs_out_the_host_encodes_and_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import UMT5EncoderModel

    expected = embeddings(folder, tmp_path / "one")([PROMPT], CPU)[0]
    moved = UMT5EncoderModel.to

    def to(self: UMT5EncoderModel, device: torch.device) -> UMT5EncoderModel:
        if device.type == "meta":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return moved(self, device)

    monkeypatch.setattr(UMT5EncoderModel, "to", to)
    starved = embeddings(folder, tmp_path / "two")
    assert starved([PROMPT], torch.device("meta"))[0].device.type == "meta"
    assert [record.message for record in caplog.records] == [
        "memory ran out for the text encoder; it computes on the CPU"
    ]
    assert torch.equal(starved([PROMPT], CPU)[0], expected) and starved.loads == 1


def test_an_encoder_larger_than_what_is_free_stays_on_the_host(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, told in (("mem_get_info", (10**6, 10**9)), ("memory_reserved", 0), ("memory_allocated", 0)):
        monkeypatch.setattr(torch.cuda, name, lambda device, told=told: told)
    found = dict(embeddings(folder, tmp_path)._encoded([PROMPT], torch.device("cuda")))[PROMPT]
    assert torch.equal(embeddings(folder, tmp_path)([PROMPT], CPU)[0][0, : len(found)], found)
    assert "it computes on the CPU" in caplog.records[0].message


def test_nothing_of_the_libraries_is_said(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    embeddings(folder, tmp_path)([PROMPT], CPU)
    assert capfd.readouterr() == ("", "")
