"""Captioners: a small BLIP and a small LLaVA of the real classes through their own files, and what is missing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.small_captioner import save_llava

from unfade.backbones import captioner as captioners
from unfade.backbones.captioner import (
    CAPTIONERS,
    LanguageCaptioner,
    choose_captioner,
    open_captioner,
    work_on,
)
from unfade.core import ModelError, generator
from unfade.prompts.captions import KeptCaptions
from unfade.prompts.measured import MeasuredCaptioner
from unfade.prompts.progressive import TAIL, TASKS, uniform_prompt
from unfade.prompts.scene import instruction, scene_prompt

SEEN = "A dark street between brick houses."
PROMPT = (
    "A dark street between brick houses gradually becomes brighter, with natural colors and clear shadows, while "
    "everything stays in its place."
)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
    from transformers.models.blip.processing_blip import BlipProcessor

    folder = tmp_path_factory.mktemp("models") / "blip"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "quiet", "street", "[DEC]"]
    tokens = Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = BertTokenizerFast(tokenizer_object=tokens)
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 8, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**small, **special, "vocab_size": 9, "encoder_hidden_size": 16, "max_position_embeddings": 128}
    config = BlipConfig(
        text_config={**text, "projection_dim": 16},
        vision_config={**small, "image_size": 32, "patch_size": 16, "projection_dim": 16},
        projection_dim=16,
    )
    torch.manual_seed(3)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_a_caption_comes_from_the_model_and_repeats(blip: Path) -> None:
    captioner = open_captioner(blip)
    assert not captioner.instructed
    picture = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    said = captioner(picture, "blur")
    assert said == captioner(picture, "blur")
    assert set(said.split()) <= {
        "a",
        "quiet",
        "street",
        "[UNK]",
        "[DEC]",
        "[MASK]",
        "dec",
        "mask",
        "unk",
        "[",
        "]",
    }
    chosen = scene_prompt(picture, "blur", captioner)
    assert chosen.caption == said and chosen.text.endswith("Nothing moves. Static image.")
    captioner.unload()
    assert captioner(picture, "blur") == said
    assert captioner.identity == open_captioner(blip).identity


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("models") / "llava")


def _picture(name: str) -> torch.Tensor:
    return torch.rand(3, 40, 60, generator=generator(4, name))


def _answering(captioner: LanguageCaptioner, answer: str | None) -> list[dict[str, Any]]:
    """What the loaded model is given from now on; with an answer it has learnt its words by heart."""
    model, processor = captioner._loaded()
    given: list[dict[str, Any]] = []
    generate = type(model).generate

    def learnt(**told: Any) -> torch.Tensor:
        given.append(told)
        if answer is None:
            return generate(model, **told)
        words = processor.tokenizer(answer, return_tensors="pt")["input_ids"]
        return torch.cat([told["input_ids"], words], 1)

    model.generate = learnt
    return given


def test_an_instructed_model_is_told_the_rules_and_shown_the_photo(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioners, "_TOKENS", 24)
    captioner = open_captioner(llava)
    assert captioner.instructed
    given = _answering(captioner, None)
    said = {task: captioner(_picture("a"), task) for task in TASKS}
    processor = captioner._loaded()[1]
    for told, task in zip(given, TASKS, strict=True):
        text = processor.tokenizer.decode(told["input_ids"][0])
        assert instruction(task) in text and text.endswith("<|im_start|>assistant\n")
        # Its answer alone is taken, not what it was told.
        assert said[task] and "restored" not in said[task]
        assert told["max_new_tokens"] == 24 and told["do_sample"] is False
    assert torch.equal(given[0]["pixel_values"], given[1]["pixel_values"])
    captioner(_picture("b"), "blur")
    assert not torch.equal(given[3]["pixel_values"], given[1]["pixel_values"])
    captioner.unload()
    assert captioner(_picture("a"), "blur") == said["blur"]


def test_its_answer_is_used_only_if_it_keeps_the_rules(llava: Path, tmp_path: Path) -> None:
    captioner = open_captioner(llava)
    for answer, source in (
        (f"{SEEN}\n{PROMPT}", "scene"),
        (f"{SEEN}\n{PROMPT.replace('between', 'with a car between')}", "uniform"),
        (f"{SEEN}\n{PROMPT.replace('houses', 'houses where a man walks')}", "uniform"),
        (PROMPT, "uniform"),
        ("", "uniform"),
    ):
        _answering(captioner, answer)
        chosen = scene_prompt(_picture("a"), "lowlight", captioner)
        assert chosen.source == source and chosen.caption == answer, chosen.why
        assert chosen.text == (f"{PROMPT} {TAIL}" if source == "scene" else uniform_prompt("lowlight"))
    # A random model's words break the rules, and that is said in a sentence.
    captioner.unload()
    chosen = scene_prompt(_picture("a"), "lowlight", KeptCaptions(captioner, tmp_path))
    assert chosen.source == "uniform" and f"the text of {llava} breaks a rule: " in chosen.why


def test_what_was_said_is_kept_and_room_is_made_for_the_model_only_if_it_is_asked(
    llava: Path, tmp_path: Path
) -> None:
    def kept() -> KeptCaptions:
        found = choose_captioner(llava, captions=tmp_path / "captions")
        assert isinstance(found, KeptCaptions) and isinstance(found.captioner, LanguageCaptioner)
        found.before = lambda: made_way.append("now")
        return found

    made_way: list[str] = []
    first = kept()
    _answering(first.captioner, f"{SEEN}\n{PROMPT}")  # type: ignore[arg-type]
    assert scene_prompt(_picture("a"), "lowlight", first).source == "scene" and made_way == ["now"]
    again = kept()
    assert scene_prompt(_picture("a"), "lowlight", again).text == f"{PROMPT} {TAIL}"
    assert made_way == ["now"] and again.captioner._model is None  # type: ignore[attr-defined]
    assert again.path(_picture("a"), "lowlight").is_file()
    work_on(again, torch.device("meta"))
    assert again.captioner.device.type == "meta" and again.captioner.dtype == torch.bfloat16  # type: ignore[attr-defined]


def test_auto_is_the_default_model_where_it_is_whole_and_usable(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(choose_captioner("rules"), MeasuredCaptioner)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(captioners, "find_spec", lambda name: None if name in lacking else name)
    lacking: set[str] = set()
    assert choose_captioner().name == "rules"
    base = tmp_path / "hub/models--Qwen--Qwen3-VL-4B-Instruct"
    snapshot = base / "snapshots/abc"
    snapshot.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs/main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')
    assert choose_captioner().name == "rules"
    (snapshot / "one.safetensors").touch()
    assert choose_captioner().name == "qwen3-vl-4b"
    lacking.add("torchvision")
    assert choose_captioner().name == "rules"


def test_what_is_missing_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, info in CAPTIONERS.items():
        with pytest.raises(
            ModelError, match=f"{name} is not on this machine; get it with hf download {info.hub_id}"
        ):
            open_captioner(name)
    with pytest.raises(ModelError, match="unknown captioner 'gpt'"):
        open_captioner("gpt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        open_captioner(tmp_path / "empty")
    (tmp_path / "empty/config.json").write_text("{}")
    with pytest.raises(ModelError, match="no weights in safetensors"):
        open_captioner(tmp_path / "empty")(torch.zeros(3, 8, 8), "blur")
    (tmp_path / "empty/model.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a whole image-text-to-text model"):
        open_captioner(tmp_path / "empty")(torch.zeros(3, 8, 8), "blur")
