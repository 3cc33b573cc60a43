"""Captioners of footage: small models of the real classes through their own files; what is missing, in a sentence."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.small_captioner import TEMPLATE, byte_tokenizer, save_llava
from torch import Tensor

from unfade.backbones import video_captioner
from unfade.backbones.video_captioner import (
    VIDEO_CAPTIONERS,
    CogVLMCaptioner,
    KeptDescriptions,
    VideoCaptioner,
    choose_video_captioner,
    open_video_captioner,
)
from unfade.core import ModelError, OutputError, generator
from unfade.prompts.footage import FootageRules
from unfade.prompts.vividvr import INSTRUCTION, QUERY

TIMES = [0.0, 1.0, 2.0]
NO_TORCHVISION = find_spec("torchvision") is None
LENGTH = 24


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models never come to an end."""
    monkeypatch.setattr(video_captioner, "_TOKENS", LENGTH)


def _frames(name: str, looks: int = 3) -> Tensor:
    return torch.rand(looks, 3, 40, 48, generator=generator(4, name))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows pictures only."""
    return save_llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-VL, whose processor takes footage."""
    if NO_TORCHVISION:
        pytest.skip("torchvision is not installed, which the video processors of transformers need")
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    folder, tokenizer = tmp_path_factory.mktemp("models") / "qwen", byte_tokenizer()
    sizes: dict[str, Any] = {
        "patch_size": 8,
        "merge_size": 2,
        "size": {"shortest_edge": 256, "longest_edge": 4096},
    }
    Qwen3VLProcessor(
        Qwen2VLImageProcessorPil(**sizes), tokenizer, Qwen3VLVideoProcessor(**sizes), chat_template=TEMPLATE
    ).save_pretrained(folder)
    config = _qwen_config(tokenizer)
    torch.manual_seed(6)
    Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config)).save_pretrained(folder)
    return folder


def _qwen_config(tokenizer: Any) -> dict[str, Any]:
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{mark}|>") for name, mark in (
        ("image_token_id", "image_pad"), ("video_token_id", "video_pad"),
        ("vision_start_token_id", "vision_start"), ("vision_end_token_id", "vision_end"),
    )}  # fmt: skip
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 8,
        "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    return {"text_config": text, "vision_config": vision, **ids}


def _seen(captioner: VideoCaptioner, frames: Tensor, times: list[float]) -> tuple[str, dict[str, Tensor]]:
    """What was said, and what the model was given for it."""
    model, _ = captioner._loaded()
    given: list[dict[str, Any]] = []
    generate = model.generate

    def keep(**named: Any) -> Any:
        given.append(named)
        return generate(**named)

    model.generate = keep
    said = captioner.describe(frames, times)
    del model.generate
    return said, given[0]


def _pictures(frames: Tensor) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(frame) for frame in (frames * 255).round().byte().permute(0, 2, 3, 1).numpy()]


def test_a_model_of_pictures_is_shown_each_frame(llava: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    captioner = open_video_captioner(llava, query="What is it?")
    assert isinstance(captioner, VideoCaptioner) and captioner.instructed and captioner.query == "What is it?"
    said, given = _seen(captioner, _frames("a"), TIMES)
    assert said == captioner.describe(_frames("a"), TIMES) != ""
    assert given["pixel_values"].shape == (3, 3, 16, 16)
    # The same by transformers' own way from messages to words.
    processor, model = (
        AutoProcessor.from_pretrained(llava),
        AutoModelForImageTextToText.from_pretrained(llava),
    )
    parts = [{"type": "image", "image": picture} for picture in _pictures(_frames("a"))]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": [*parts, {"type": "text", "text": "What is it?"}]}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    assert torch.equal(inputs["input_ids"], given["input_ids"])
    made = model.eval().generate(**inputs, max_new_tokens=LENGTH, do_sample=False)
    words = processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    assert " ".join(words.split()) == said
    assert captioner.describe(_frames("b"), TIMES) != said
    captioner.unload()
    assert captioner.describe(_frames("a"), TIMES) == said
    assert captioner.identity == open_video_captioner(llava).identity
    assert open_video_captioner(llava).query == INSTRUCTION


def test_qwen_is_shown_footage_with_its_times(qwen: Path) -> None:
    captioner = open_video_captioner(qwen)
    assert isinstance(captioner, VideoCaptioner)
    frames = _frames("a", 4)
    said, given = _seen(captioner, frames, [0.0, 1.0, 2.0, 2.5])
    assert said == captioner.describe(frames, [0.0, 1.0, 2.0, 2.5]) != ""
    # Two frames make one step of time, whose time is between theirs.
    assert given["video_grid_thw"].tolist()[0][0] == 2 and "pixel_values" not in given
    told = captioner._loaded()[1].decode(given["input_ids"][0])
    assert "<0.5 seconds>" in told and "<2.2 seconds>" in told and INSTRUCTION in told
    assert captioner.describe(_frames("b", 4), [0.0, 1.0, 2.0, 2.5]) != said
    # The patches are the frames: the mean of each is that of its pixels.
    pixels = given["pixel_values_videos"]
    shown = (pixels.mean() * 0.5 + 0.5).item()
    assert shown == pytest.approx(frames.mean().item(), abs=0.02)


def test_qwen_is_shown_a_single_frame_as_a_picture(qwen: Path) -> None:
    captioner = open_video_captioner(qwen)
    assert isinstance(captioner, VideoCaptioner)
    said, given = _seen(captioner, _frames("a", 1), [0.0])
    assert said and "pixel_values_videos" not in given and given["image_grid_thw"].shape == (1, 3)


@pytest.mark.skipif(not NO_TORCHVISION, reason="torchvision is installed")
def test_without_torchvision_qwen_is_one_sentence(tmp_path: Path) -> None:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokenizer = byte_tokenizer()
    Qwen3VLForConditionalGeneration(Qwen3VLConfig(**_qwen_config(tokenizer))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    # As the published folder has it.
    kinds = {"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(kinds))
    kinds = {"video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(kinds))
    with pytest.raises(ModelError, match=r"needs torchvision: pip install '\.\[captions\]'"):
        open_video_captioner(tmp_path).describe(_frames("a"), TIMES)


def test_frames_and_times_must_fit(llava: Path) -> None:
    captioner = open_video_captioner(llava)
    for frames, times in (
        (_frames("a")[0], TIMES),
        (_frames("a"), TIMES[:2]),
        (_frames("a"), [0.0, 2.0, 1.0]),
    ):
        with pytest.raises(ValueError, match="frames are"):
            captioner.describe(frames, times)


CODE = '''
import torch
from transformers import PretrainedConfig, PreTrainedModel


class SmallConfig(PretrainedConfig):
    model_type = "small-cogvlm"


class CogVLMVideoForCausalLM(PreTrainedModel):
    """Says how many frames it was given, how bright they are and what it was asked."""

    config_class = SmallConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(2, 2)
        self.post_init()

    def forward(self, input_ids):
        return self.layer(input_ids)

    def build_conversation_input_ids(self, tokenizer, *, query, history, images, template_version):
        assert history == [] and template_version == "chat" and len(images) == 1
        ids = torch.tensor(tokenizer.encode(f"Question: {query} Answer:"))
        video = images[0].transpose(0, 1)
        return {"input_ids": ids, "token_type_ids": ids * 0, "attention_mask": ids * 0 + 1, "images": [video]}

    def generate(self, input_ids, token_type_ids, attention_mask, images, **settings):
        assert settings == {"max_new_tokens": 2048, "pad_token_id": 128002, "do_sample": False}
        assert input_ids.shape == token_type_ids.shape == attention_mask.shape and len(input_ids) == 1
        video = images[0][0]
        assert video.dtype == self.layer.weight.dtype
        said = f"{len(video)} looks at {video[0].mean():.1f}, {video[-1].mean():.1f}"
        FAULT
        return torch.cat([input_ids, torch.tensor([[ord(letter) - LOWEST for letter in said]])], 1)
'''


@pytest.fixture
def cogvlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A folder with code of its own, which may be at fault."""
    from safetensors.torch import save_file
    from transformers import dynamic_module_utils

    # Where transformers copies code to before it runs it.
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))

    def make(name: str, fault: str = "") -> Path:
        folder = tmp_path / name
        tokenizer = byte_tokenizer()
        tokenizer.save_pretrained(folder)
        lowest = ord("!") - tokenizer.convert_tokens_to_ids("!")
        code = (
            CODE.replace("FAULT", fault)
            .replace("LOWEST", str(lowest))
            .replace("{len(video)} ", "{len(video)}Ġ")
        )
        code = code.replace("looks at ", "looksĠatĠ").replace(", {video", ",Ġ{video")
        code = code.replace("ord(letter)", "(ord(letter) if letter != 'Ġ' else SPACE)")
        code = code.replace("SPACE", str(tokenizer.convert_tokens_to_ids("Ġ") + lowest))
        (folder / "modeling_small.py").write_text(code)
        kinds = {
            "AutoConfig": "modeling_small.SmallConfig",
            "AutoModelForCausalLM": "modeling_small.CogVLMVideoForCausalLM",
        }
        config = {
            "architectures": ["CogVLMVideoForCausalLM"],
            "auto_map": kinds,
            "model_type": "small-cogvlm",
        }
        (folder / "config.json").write_text(json.dumps(config))
        weights = {"layer.weight": torch.eye(2), "layer.bias": torch.zeros(2)}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def test_code_in_a_folder_runs_only_where_it_is_allowed(cogvlm, tmp_path: Path) -> None:
    folder = cogvlm("one")
    with pytest.raises(
        ModelError, match="brings Python code of its own, which is run only where that is allowed"
    ):
        open_video_captioner(folder)
    assert not (tmp_path / "modules").exists()
    captioner = open_video_captioner(folder, trust_remote_code=True)
    assert captioner.query == QUERY
    frames = torch.stack([torch.full((3, 8, 8), share) for share in (0.0, 0.5, 1.0)])
    # The published captioner takes frames from 0 to 255.
    assert captioner.describe(frames, TIMES) == "3 looks at 0.0, 255.0"
    captioner.unload()
    assert captioner.describe(frames[:2], TIMES[:2]) == "2 looks at 0.0, 128.0"
    before = captioner.identity
    with (folder / "modeling_small.py").open("a") as code:
        code.write("# changed\n")
    assert captioner.identity != before


def test_code_that_fails_is_one_sentence(cogvlm) -> None:
    folder = cogvlm("two", "raise AttributeError('no such cache')")
    captioner = open_video_captioner(folder, trust_remote_code=True)
    with pytest.raises(
        ModelError, match=r"fails \(no such cache\); it was written for transformers 4\.42"
    ) as told:
        captioner.describe(_frames("a"), TIMES)
    assert "\n" not in str(told.value)
    folder = cogvlm("three")
    (folder / "modeling_small.py").write_text(
        "import nothing_of_that_name\n" + (folder / "modeling_small.py").read_text()
    )
    with pytest.raises(ModelError, match="nothing_of_that_name"):
        open_video_captioner(folder, trust_remote_code=True).describe(_frames("a"), TIMES)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights in safetensors"):
        open_video_captioner(folder, trust_remote_code=True).describe(_frames("a"), TIMES)


def test_what_is_missing_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "blip" not in VIDEO_CAPTIONERS
    for name, info in VIDEO_CAPTIONERS.items():
        if name == "cogvlm2-caption":
            for given in (name, info.hub_id):
                with pytest.raises(
                    ModelError, match="used by its folder only; get it with hf download THUDM/cogvlm2"
                ):
                    open_video_captioner(given, trust_remote_code=True)
            continue
        with pytest.raises(
            ModelError, match=f"{name} is not on this machine; get it with hf download {info.hub_id}"
        ):
            open_video_captioner(name)
    with pytest.raises(ModelError, match="unknown captioner 'gpt'"):
        open_video_captioner("gpt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.json").write_text("[]")
    with pytest.raises(ModelError, match="no weights in safetensors"):
        open_video_captioner(tmp_path / "empty").describe(_frames("a"), TIMES)


def in_the_hubs_cache(hub: Path, hub_id: str, files: Path) -> Path:
    """The folder of a model as if it had been downloaded."""
    kept = hub / f"models--{hub_id.replace('/', '--')}"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs/main").write_text("0123")
    return shutil.copytree(files, kept / "snapshots/0123")


def test_the_best_captioner_that_is_here_is_taken(
    cogvlm: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published one where its code may run, else the default model, else the rules; half of either is none."""
    hub, lacking = tmp_path / "hub", {""}
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(video_captioner, "find_spec", lambda name: None if name in lacking else name)

    def chosen(**allowed: bool) -> object:
        found = choose_video_captioner(captions=tmp_path / "captions", **allowed)
        if isinstance(found, FootageRules):
            return found.name
        assert isinstance(found, KeptDescriptions)
        assert isinstance(found.captioner, CogVLMCaptioner if allowed else VideoCaptioner)
        return found.name

    assert chosen() == "rules"
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text("{}")
    (half / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')
    folder = in_the_hubs_cache(hub, "Qwen/Qwen3-VL-4B-Instruct", half)
    assert chosen() == "rules"
    (folder / "one.safetensors").touch()
    assert chosen() == "qwen3-vl-4b"
    for name in ("torchvision", "PIL", "transformers"):
        lacking.add(name)
        assert chosen() == "rules"
        lacking.remove(name)
    code = in_the_hubs_cache(hub, "THUDM/cogvlm2-llama3-caption", cogvlm("one")) / "modeling_small.py"
    assert chosen() == "qwen3-vl-4b"
    assert chosen(trust_remote_code=True) == "cogvlm2-caption"
    captioner = choose_video_captioner(captions=tmp_path / "captions", trust_remote_code=True)
    assert captioner.describe(torch.zeros(3, 3, 8, 8), TIMES) == "3 looks at 0.0, 0.0"
    code.write_text(f"import nothing_of_that_name\n{code.read_text()}")
    lacking.add("nothing_of_that_name")
    found = choose_video_captioner(trust_remote_code=True)
    assert found.name == "qwen3-vl-4b"
    assert choose_video_captioner("rules", trust_remote_code=True).name == "rules"


def test_captions_are_kept_by_footage_captioner_and_query(tmp_path: Path, llava: Path) -> None:
    frames = _frames("a")
    kept = KeptDescriptions(FootageRules(), tmp_path / "captions")
    text = kept.describe(frames, TIMES)
    assert kept.describe(frames, TIMES) == text == FootageRules().describe(frames, TIMES) and kept.made == 1
    path = kept.path(frames, TIMES)
    assert list((tmp_path / "captions").iterdir()) == [path]
    assert json.loads(path.read_text()) == {
        "caption": text,
        "captioner": "rules",
        "query": "",
        "times": TIMES,
    }
    # What 8 bits don't show is no change; anything else is.
    assert kept.path((frames * 255).round() / 255, TIMES) == path
    captioners = [open_video_captioner(llava, query=query) for query in ("One?", "Two?")]
    others = [
        kept.path(frames.flip(0), TIMES), kept.path(frames[:2], TIMES[:2]), kept.path(frames, [0.0, 1.0, 3.0]),
        kept.path(frames.transpose(2, 3), TIMES),
        *(KeptDescriptions(captioner, kept.folder).path(frames, TIMES) for captioner in captioners),
    ]  # fmt: skip
    assert len({path, *others}) == len(others) + 1
    for damage in ("{", "[]", '{"caption": 3}', ""):
        path.write_text(damage)
        assert kept.describe(frames, TIMES) == text and json.loads(path.read_text())["caption"] == text
    assert kept.made == 5 and list((tmp_path / "captions").iterdir()) == [path]
    path.write_text('{"caption": "A boat."}')
    assert KeptDescriptions(FootageRules(), kept.folder).describe(frames, TIMES) == "A boat."
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        KeptDescriptions(FootageRules(), tmp_path / "file").describe(frames, TIMES)
