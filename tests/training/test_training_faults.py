"""What is kept of a training of a video model when a step, its telling or the machine fails."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.small_vbridge import RUN, TEXTS, WHOLE, learnt, rows, wan

from unfade.core import Clip, InputError, UnfadeError
from unfade.media.images import write_image
from unfade.training.pairs import find_pairs
from unfade.training.run_state import read_state
from unfade.training.sequences import PairSequences, PhotoSequences
from unfade.training.vbridge import VBridgeRun, VBridgeTrainer


def test_a_loss_that_is_not_a_number_keeps_the_state(
    sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    trainer = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path, cache=cache)
    trainer.run(until=1)
    good = learnt(trainer)

    def diverge(row: dict[str, object]) -> None:
        if row["step"] == 2:
            trainer.texts = trainer.texts * torch.nan

    with pytest.raises(
        UnfadeError,
        match=r"loss is not a number at step 2 \(samples: .*\); the state of step 1 is kept in .*checkpoint\.pt: look",
    ):
        trainer.run(report=diverge)
    # What was learnt in step 1 may be what spoilt it, so the state before that is the one to go on from.
    second = VBridgeTrainer(replace(RUN, lr=1e-4), wan(), sequences, TEXTS, tmp_path, cache=cache)
    assert second.resume() and second.step == 1
    assert all(torch.equal(learnt(second)[name], value) for name, value in good.items())
    second.run(until=2)
    assert second.step == 2
    other = VBridgeTrainer(RUN, wan(), sequences, TEXTS * torch.nan, tmp_path / "other", cache=cache)
    with pytest.raises(
        UnfadeError, match=r"at step 0 \(samples: .*\); no state was saved yet: look at these"
    ):
        other.run()
    assert not other.checkpoint.exists()


def test_ctrl_c_finishes_the_step_and_saves(sequences: PhotoSequences, cache: Path, tmp_path: Path) -> None:
    trainer = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path, cache=cache)

    def interrupt(row: dict[str, object]) -> None:
        if row["step"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.run(report=interrupt)
    second = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path, cache=cache)
    assert second.resume() and second.step == 2
    assert all(torch.equal(learnt(second)[name], value) for name, value in learnt(trainer).items())


def test_a_photo_that_goes_missing_keeps_what_was_learnt(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    for name in ("a", "b"):
        for side in ("LQ", "HQ"):
            write_image(Clip(torch.rand(1, 3, 40, 40)), pairs / side / f"{name}.png")
    sequences = PairSequences(find_pairs([pairs]))
    run = replace(RUN, stages=((2, 32),), checkpoint_every=100)
    trainer = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path)
    gone = pairs / "LQ" / "b.png"

    def lose(row: dict[str, object]) -> None:
        gone.unlink(missing_ok=True)

    with pytest.raises(InputError, match=r"b\.png can't be found any more"):
        trainer.run(report=lose)
    second = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path)
    assert second.resume() and second.step == 1


@pytest.fixture
def photographed(tmp_path: Path) -> Path:
    """A folder of two pairs to learn from and two to judge on."""
    for folder in ("learnt", "held-out"):
        for name in ("a", "b"):
            for side in ("LQ", "HQ"):
                write_image(Clip(torch.rand(1, 3, 40, 40)), tmp_path / folder / side / f"{name}.png")
    return tmp_path


def test_what_was_learnt_is_saved_before_it_is_judged(photographed: Path) -> None:
    run = replace(RUN, stages=((4, 32),), checkpoint_every=100, validate_every=3)

    def trainer() -> VBridgeTrainer:
        pairs = (PairSequences(find_pairs([photographed / name])) for name in ("learnt", "held-out"))
        return VBridgeTrainer(run, wan(), next(pairs), TEXTS, photographed / "run", next(pairs))

    first, second, third, fourth = (trainer() for _ in range(4))
    (photographed / "held-out" / "LQ" / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png"):
        first.run()
    # The step is in the log as well, without figures on what could not be read.
    assert [row["step"] for row in rows(photographed / "run")] == [1, 2, 3]
    assert "held_out" not in rows(photographed / "run")[-1]
    # No held-out photo keeps a run from its end.
    assert second.resume() and second.step == 3
    with pytest.raises(InputError, match=r"b\.png"):
        second.run()
    assert third.resume() and third.step == third.steps == 4
    third.run()
    assert third.export().is_file()

    def short() -> dict[str, object]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    fourth.validate = short  # type: ignore[method-assign]
    with pytest.raises(
        UnfadeError, match=r"while validating after step 3; the state of step 3 is kept in .*: the"
    ):
        fourth.run()


def test_a_step_without_memory_keeps_what_was_learnt_and_says_what_needs_less(
    sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    def trainer(run: VBridgeRun) -> VBridgeTrainer:
        return VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path / "run", cache=cache)

    def short(*told: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = replace(WHOLE, checkpoint_every=100)
    first = trainer(replace(run, gradient_checkpointing=False))
    first.train_step()
    good = learnt(first)
    first.loss = short  # type: ignore[method-assign]
    with pytest.raises(
        UnfadeError,
        match=r"memory ran out at step 1, on crops of 32 pixels; the state of step 1 is kept in .*checkpoint\.pt: "
        r"take smaller crops, fewer frames, a larger --accumulation \(each process takes 2 samples at once\), "
        r"gradient checkpointing or --lora in another folder$",
    ):
        first.run()
    second = trainer(run)
    assert second.resume() and second.step == 1
    assert all(torch.equal(learnt(second)[name], value) for name, value in good.items())

    def halfway(*told: object) -> None:
        next(second.model.parameters()).data += 1
        raise torch.OutOfMemoryError("CUDA out of memory")

    # Weights of which some are one step ahead are no state to go on from.
    second.train_step()
    second.optimizer.step = halfway  # type: ignore[method-assign]
    with pytest.raises(UnfadeError, match=r"ran out at step 2, .*; the state of step 1 is kept in"):
        second.run()
    assert read_state(second.checkpoint)["step"] == 1
    alone = VBridgeTrainer(replace(RUN, batch=1), wan(), sequences, TEXTS, tmp_path / "lora", cache=cache)
    alone.loss = short  # type: ignore[method-assign]
    with pytest.raises(UnfadeError, match=r"no state was saved yet: take smaller crops or fewer frames$"):
        alone.run()
    assert not alone.checkpoint.exists()


def test_any_fault_in_a_step_keeps_what_was_learnt(
    sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    trainer = VBridgeTrainer(RUN, wan(), sequences, TEXTS, tmp_path, cache=cache)
    loss = trainer.loss

    def failing(*told: object) -> torch.Tensor:
        if trainer.step == 2:
            raise RuntimeError("the device is gone")
        return loss(*told)  # type: ignore[arg-type]

    trainer.loss = failing  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the device is gone"):
        trainer.run()
    assert read_state(trainer.checkpoint)["step"] == 2

    def unread(row: dict[str, object]) -> None:
        raise BrokenPipeError("nobody reads this any more")

    trainer.loss = loss  # type: ignore[method-assign]
    trainer.plan = replace(trainer.plan, checkpoint_every=100)
    with pytest.raises(BrokenPipeError):
        trainer.run(report=unread)
    assert read_state(trainer.checkpoint)["step"] == trainer.step == 3
