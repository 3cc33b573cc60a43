"""Real steps of the real trainer on small random models of the real classes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from tests.training.small_vbridge import RUN, TEXTS, WHOLE, learnt, rows, wan

from unfade.backbones.wan import build_wan
from unfade.backbones.wan_config import SMALL, TI2V_5B
from unfade.backbones.wan_folder import load_wan, open_wan, save_wan
from unfade.conditioning.lora import LoraSettings, load_adapter
from unfade.core import InputError, ModelError, UsageError
from unfade.training.sequences import PhotoSequences
from unfade.training.vbridge import VBridgeRun, VBridgeTrainer
from unfade.training.video_trainer import train_whole


@pytest.mark.parametrize("run", [RUN, WHOLE], ids=["lora", "whole"])
def test_resuming_equals_never_stopping(
    run: VBridgeRun, sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    straight = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path / "straight", cache=cache)
    before = learnt(straight)
    straight.run()
    assert straight.step == straight.steps == 4
    VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path / "broken", cache=cache).run(until=1)
    second = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path / "broken", cache=cache)
    assert second.resume() and second.step == 1
    second.run()
    for name, value in learnt(straight).items():
        assert torch.equal(learnt(second)[name], value), name
        # The text's projections learn as everything else does.
        assert not torch.equal(before[name], value), name
    losses = [[row["loss"] for row in rows(tmp_path / folder)] for folder in ("straight", "broken")]
    assert losses[0] == losses[1] and len(losses[0]) == 4
    assert [row["size"] for row in rows(tmp_path / "broken")] == [32, 32, 64, 64]


def test_micro_batches_are_the_batch(sequences: PhotoSequences, cache: Path, tmp_path: Path) -> None:
    both = []
    for accumulation in (1, 2):
        run = replace(RUN, accumulation=accumulation)
        trainer = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path, cache=cache)
        both.append((trainer.train_step(), learnt(trainer)))
    assert both[0][0] == pytest.approx(both[1][0], rel=1e-5)
    # AdamW's first step is the sign of the gradient where that is not lost in rounding.
    for name, value in both[0][1].items():
        assert (both[1][1][name] - value).abs().median() < 1e-7, name


def test_it_learns_one_sequence(sequences: PhotoSequences, cache: Path, tmp_path: Path) -> None:
    run = replace(WHOLE, stages=((60, 32),), batch=4, lr=5e-3, clip=1.0, text_dropout=0.0)
    trainer = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path, cache=cache)
    losses = [trainer.train_step()["loss"] for _ in range(40)]
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_a_run_leaves_log_pictures_and_an_adapter(
    sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    trainer = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path, held_out=sequences, cache=cache)
    trainer.run(until=2)
    last = rows(tmp_path)[-1]
    held_out = last["held_out"]
    assert isinstance(held_out, dict)
    assert len(held_out["frames"]) == 5 and held_out["result"] == held_out["frames"][-1]
    assert set(held_out["gains"]) == {"noise", "dark"}
    assert (tmp_path / "pictures" / "step-000002.png").is_file()
    assert last["clipped"] == 1.0, "random weights have gradients far above 0.05"
    told = load_adapter(wan().denoiser.model, trainer.export({"commit": "abc"}))
    assert (told["role"], told["notes.commit"], told["notes.step"]) == ("restore", "abc", "2")
    assert told["base.weights"] == "random"


def test_latents_are_made_once(sequences: PhotoSequences, tmp_path: Path) -> None:
    run = replace(RUN, stages=((3, 32),), batch=4, crops=2)
    trainer = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path)
    trainer.run()
    assert (trainer.store.encoded, trainer.store.found) == (8, 4)
    kept = trainer.store.path(0, 32, 0)
    first = trainer.store(0, 32, 0)
    kept.write_bytes(b"damaged")
    assert torch.equal(trainer.store(0, 32, 0), first)
    torch.manual_seed(99)
    other = VBridgeTrainer(run, build_wan(SMALL), sequences, TEXTS, tmp_path)
    assert other.store.path(0, 32, 0) != kept


def test_a_model_trained_whole_is_a_folder_again(
    sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    trainer = VBridgeTrainer(WHOLE, wan(), sequences, TEXTS, tmp_path, cache=cache)
    trainer.run(until=1)
    path = tmp_path / "model-000001"
    save_wan(wan(), path)
    # Another model of that name does not keep the new one from being written.
    assert trainer.export({"commit": "abc"}) == path
    assert json.loads((path / "training.json").read_text())["commit"] == "abc"
    theirs = load_wan(open_wan(path), torch.float32).denoiser.model.state_dict()
    for name, value in trainer.video.denoiser.model.state_dict().items():
        assert torch.equal(theirs[name], value), name
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint.pt", "log.jsonl", path.name]


def test_bf16_keeps_what_learns_in_fp32(sequences: PhotoSequences, cache: Path, tmp_path: Path) -> None:
    model = wan()
    model.denoiser.model.to(torch.bfloat16)
    trainer = VBridgeTrainer(replace(RUN, precision="bf16"), model, sequences, TEXTS, tmp_path, cache=cache)
    told = trainer.train_step()
    assert told["loss"] > 0
    assert {value.dtype for value in learnt(trainer).values()} == {torch.float32}
    state = next(iter(trainer.optimizer.state.values()))
    assert state["exp_avg"].dtype == torch.float32
    exact = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path, cache=cache).train_step()
    assert told["loss"] == pytest.approx(exact["loss"], rel=0.02)


def test_what_does_not_fit_is_refused(sequences: PhotoSequences, cache: Path, tmp_path: Path) -> None:
    def trainer(run: VBridgeRun, texts: torch.Tensor = TEXTS) -> VBridgeTrainer:
        return VBridgeTrainer(run, wan(), sequences, texts, tmp_path, cache=cache)

    with pytest.raises(UsageError, match="multiples of 32, not 720x720"):
        trainer(replace(RUN, stages=((1, 720),)))
    with pytest.raises(UsageError, match="frames must be 4k"):
        trainer(replace(RUN, frames=8))
    with pytest.raises(UsageError, match="can't be split"):
        trainer(replace(RUN, accumulation=3))
    with pytest.raises(UsageError, match="empty prompt"):
        trainer(RUN, TEXTS[:1])
    first = trainer(RUN)
    first.run(until=1)
    with pytest.raises(InputError, match="another model, adapter or control"):
        trainer(replace(RUN, lora=LoraSettings(rank=2))).resume()
    first.checkpoint.write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged"):
        trainer(RUN).resume()


def test_an_adapter_can_be_gone_on_from(sequences: PhotoSequences, cache: Path, tmp_path: Path) -> None:
    first = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path / "one", cache=cache)
    first.run(until=1)
    written = first.export()
    second = VBridgeTrainer(
        RUN, wan(), sequences, TEXTS, tmp_path / "two", cache=cache, role="drift-correction", start=written
    )
    for name, value in learnt(first).items():
        assert torch.equal(learnt(second)[name.replace(".restore.", ".drift-correction.")], value)


def test_the_adapter_gone_on_from_decides_its_shape(
    sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    first = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path / "one", cache=cache)
    written = first.export()
    wider = replace(RUN, lora=LoraSettings(rank=8))
    second = VBridgeTrainer(wider, wan(), sequences, TEXTS, tmp_path / "two", cache=cache, start=written)
    second.run(until=1)
    assert second.plan.lora is not None and second.plan.lora.rank == 4
    told = load_adapter(wan().denoiser.model, second.export())
    assert told["rank"] == "4" and json.loads(told["notes.run"])["lora"]["rank"] == 4
    with pytest.raises(InputError, match="another model, adapter or control"):
        VBridgeTrainer(wider, wan(), sequences, TEXTS, tmp_path / "two", cache=cache).resume()
    # The same shape is the same, in whatever order its layers are told.
    alone = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path / "two", cache=cache)
    assert alone.resume() and alone.step == 1
    for told in ({"start": tmp_path / "none.safetensors"}, {"role": "drift-correction"}):
        with pytest.raises(UsageError, match=f"--{next(iter(told))} is for an adapter"):
            VBridgeTrainer(WHOLE, wan(), sequences, TEXTS, tmp_path / "three", cache=cache, **told)  # type: ignore[arg-type]


def test_other_weights_of_the_same_sizes_are_another_base(
    sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    def trainer(weights: str, **told: Path) -> VBridgeTrainer:
        model = replace(wan(), provenance={"model": "small", "weights": weights * 64})
        return VBridgeTrainer(RUN, model, sequences, TEXTS, tmp_path, cache=cache, **told)  # type: ignore[arg-type]

    first = trainer("a")
    first.run(until=1)
    with pytest.raises(InputError, match="was begun on other weights than this model's"):
        trainer("b").resume()
    assert trainer("a").resume()
    with pytest.raises(
        ModelError, match=r"another base \(small, whose files have the hash aaaaaaaaaaaa and not bbbb"
    ):
        trainer("b", start=first.export())
    # What was never a file has no hash to compare.
    assert VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path, cache=cache).resume()


def test_the_log_says_what_the_state_knows(sequences: PhotoSequences, cache: Path, tmp_path: Path) -> None:
    """After a kill the log holds rows of steps that were lost, and half a line; they are done, and told, again."""
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 9.0}\n{"step": 2, "lo')
    first = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path)
    assert not first.resume()
    first.run(until=3)
    with log.open("a") as file:
        file.write('{"step": 4, "loss": 9.0}\n{"st')
    second = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path)
    assert second.resume()
    counted = (first.store.encoded, first.store.found, first.store.enlarged)
    assert (second.store.encoded, second.store.found, second.store.enlarged) == counted
    assert first.store.encoded > 0
    second.run()
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    assert all(row["loss"] != 9.0 for row in rows(tmp_path))
    made = [row["latents_made"] for row in rows(tmp_path)]
    assert made == sorted(made) and made[-1] == len(list((tmp_path / "latents").iterdir()))


def test_all_weights_of_the_full_model_learn_and_are_what_is_written() -> None:
    transformer = build_wan(TI2V_5B, "meta", torch.bfloat16).denoiser.model
    train_whole(transformer)
    named = dict(transformer.named_parameters())
    assert all(value.requires_grad and value.dtype == torch.float32 for value in named.values())
    assert set(named) == set(transformer.state_dict())
    assert sum(value.numel() for value in named.values()) / 1e9 == pytest.approx(5.0, abs=0.005)


def test_the_launchers_settings_do_not_change_the_run(
    sequences: PhotoSequences, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step() -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        for state in (AcceleratorState, GradientState):
            state._reset_state()
        trainer = VBridgeTrainer(replace(RUN, clip=1e-9), wan(), sequences, TEXTS, tmp_path, cache=cache)
        return trainer.train_step(), learnt(trainer)

    told, weights = step()
    with monkeypatch.context() as launched:
        launched.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
        launched.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        again, same = step()
    assert again == told
    assert all(torch.equal(same[name], value) for name, value in weights.items())
    with monkeypatch.context() as launched:
        launched.setenv("ACCELERATE_USE_DEEPSPEED", "true")
        with pytest.raises(UsageError, match="accelerate is set to deepspeed, which is not supported"):
            step()
    with monkeypatch.context() as launched:
        launched.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
        with pytest.raises(UsageError, match="set to compile the model"):
            step()
    step()


@pytest.mark.parametrize(("name", "value"), [("crops", -1), ("warmup", -1), ("weight_decay", -0.1)])
def test_a_run_has_no_negative_counts(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0"):
        replace(RUN, **{name: value})
