"""A video model's run over two processes, each with a copy of the model or with half of it, is the run of one."""

import gc
import importlib
import multiprocessing
import os
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.training.small_vbridge import RUN, TEXTS, WHOLE, learnt, rows, wan
from tests.training.small_vivid import trainer
from tests.training.test_progressive_training import RUN as LORA
from tests.training.test_progressive_training import embed, model

from unfade.conditioning.control import Controlled
from unfade.conditioning.control_file import load_control
from unfade.conditioning.lora import load_adapter
from unfade.training.photos import load_photos
from unfade.training.progression import ProgressionSequences
from unfade.training.progressive import ProgressiveTrainer
from unfade.training.run_state import read_state
from unfade.training.sequences import PhotoSequences
from unfade.training.vbridge import VBridgeRun, VBridgeTrainer
from unfade.training.vivid import VividTrainer

Make = Callable[[Path], VBridgeTrainer | VividTrainer | ProgressiveTrainer]


def _spread(self: object, model: torch.nn.Module, optimizer: torch.optim.AdamW) -> tuple[object, object]:
    """What `Accelerator.prepare` does for FSDP of version 2, which accelerate offers on GPUs only."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    names = [name for name, value in model.named_parameters() if value.requires_grad]
    mesh = init_device_mesh("cpu", (2,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    parameters = dict(model.named_parameters())
    optimizer.param_groups[0]["params"] = [parameters[name] for name in names]
    return model, SimpleNamespace(optimizer=optimizer)


def _blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Of a transformer, or of one with its control."""
    if not isinstance(model, Controlled):
        blocks = getattr(model, "blocks", None) or model.transformer_blocks
        return list(blocks)  # type: ignore[arg-type]
    parts = model.transformer.transformer_blocks, model.control.controlnet.transformer_blocks
    return [block for part in (*parts, model.control.connectors) for block in part]


def _work(rank: int, port: int, make: Make, spread: bool, folder: Path, until: int) -> None:
    """One of two processes; forked, so that it has everything imported and the tests' settings."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    # Two threads each on two busy cores would wait for one another most of the time.
    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", RANK=str(rank),
        LOCAL_RANK=str(rank), ACCELERATE_USE_CPU="true", GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1",
    )  # fmt: skip
    if spread:
        Accelerator.prepare = _spread  # type: ignore[method-assign]
        # Nothing is done in place to what the model returns.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    trainer = make(folder)
    assert trainer.accelerator.num_processes == 2
    trainer.resume()
    trainer.run(until)
    trainer.export()
    torch.distributed.destroy_process_group()


def _two(*told: object, patience: float = 180) -> None:
    """Both processes to their end; none outlives this, even where one waits for the other for ever."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    importlib.import_module("torch._dynamo")  # once, before the fork: spreading a model needs it
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_work, args=(rank, port, *told)) for rank in (0, 1)]
    # Frames that other tests decoded are scaled by threads that a forked process doesn't have; it would wait for them
    # for ever if it were the one to collect such a frame.
    gc.collect()
    gc.freeze()
    try:
        for worker in workers:
            worker.start()
        gc.unfreeze()
        for worker in workers:
            worker.join(patience)
        assert [worker.exitcode for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()
                worker.join()


def test_processes_that_hang_are_ended(tmp_path: Path) -> None:
    def make(folder: Path) -> VBridgeTrainer:
        time.sleep(600)
        raise AssertionError("nobody waits so long")

    with pytest.raises(AssertionError, match="None"):
        _two(make, False, tmp_path, 1, patience=0.5)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("run", "spread"), [(RUN, False), (WHOLE, True)], ids=["copies", "spread"])
def test_two_processes_take_the_steps_of_one(
    run: VBridgeRun, spread: bool, sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    """Each takes half of every batch; a resumed pair ends as one that never stopped."""

    def make(folder: Path) -> VBridgeTrainer:
        return VBridgeTrainer(run, wan(), sequences, TEXTS, folder, cache=cache)

    one = make(tmp_path / "one")
    one.run()
    _two(make, spread, tmp_path / "two", 4)
    _two(make, spread, tmp_path / "broken", 1)
    _two(make, spread, tmp_path / "broken", 4)
    states = _compared(tmp_path)
    broken = read_state(tmp_path / "broken" / "checkpoint.pt")["weights"]
    assert all(torch.equal(broken[name], value) for name, value in states["two"]["weights"].items())
    assert len(states["two"]["weights"]) == len(learnt(one))


@pytest.mark.parametrize("spread", [False, True], ids=["copies", "spread"])
def test_control_over_two_processes_takes_the_steps_of_one(spread: bool, tmp_path: Path) -> None:
    """What is frozen is copied or spread as well, and is no part of what is kept."""

    def make(folder: Path) -> VividTrainer:
        return trainer(folder, cache=tmp_path / "latents")

    one = make(tmp_path / "one")
    one.run(2)
    _two(make, spread, tmp_path / "two", 2)
    states = _compared(tmp_path)
    assert set(states["two"]["weights"]) == {
        name for name, value in one.model.named_parameters() if value.requires_grad
    }
    written = tmp_path / "two" / "control"
    for name, value in load_control(written, one.video.denoiser.model).state_dict().items():
        assert torch.equal(value, states["two"]["weights"][f"control.{name}"])


@pytest.mark.parametrize("spread", [False, True], ids=["copies", "spread"])
def test_progressive_over_two_processes_takes_the_steps_of_one(
    spread: bool, examples: Path, tmp_path: Path
) -> None:
    """LoRA on CogVideoX: each takes half of every batch; a resumed pair ends as one that never stopped."""
    photos = load_photos([examples])
    few = ProgressionSequences([photos[0], photos[1]], strengths=("strong",))
    run = replace(LORA, batch=2, checkpoint_every=1)

    def make(folder: Path) -> ProgressiveTrainer:
        return ProgressiveTrainer(run, model(), few, embed, folder, cache=tmp_path / "latents")

    one = make(tmp_path / "one")
    one.run(2)
    _two(make, spread, tmp_path / "two", 2)
    states = _compared(tmp_path)
    learnt_by_one = {name for name, value in one.model.named_parameters() if value.requires_grad}
    assert set(states["two"]["weights"]) == learnt_by_one and learnt_by_one
    assert all("lora" in name for name in learnt_by_one)
    written = model()
    load_adapter(written.denoiser.model, tmp_path / "two/adapter.safetensors", "restore", {})
    if not spread:
        _two(make, spread, tmp_path / "broken", 1)
        _two(make, spread, tmp_path / "broken", 2)
        broken = read_state(tmp_path / "broken" / "checkpoint.pt")["weights"]
        assert all(torch.equal(broken[name], value) for name, value in states["two"]["weights"].items())


def _compared(folder: Path) -> dict[str, dict[str, Any]]:
    """The states of "one" and "two", which learnt the same and said so."""
    states = {name: read_state(folder / name / "checkpoint.pt") for name in ("one", "two")}
    for name, value in states["two"]["weights"].items():
        torch.testing.assert_close(states["one"]["weights"][name], value, atol=1e-4, rtol=1e-3)
    for alone, shared in zip(rows(folder / "one"), rows(folder / "two"), strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert shared["norm"] == pytest.approx(alone["norm"], rel=1e-3)
    return states
