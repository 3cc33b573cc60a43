"""Captioners: a small BLIP of the real classes through its own files, and what is missing, in one sentence."""

from pathlib import Path

import pytest
import torch

from unfade.backbones.captioner import CAPTIONERS, open_captioner
from unfade.core import ModelError
from unfade.prompts.scene import scene_prompt


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
