"""A V-Bridge run over two processes, each with a copy of the model or with half of it, is the run of one."""

import importlib
import multiprocessing
import os
import socket
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.training.small_vbridge import RUN, TEXTS, WHOLE, learnt, rows, wan

from unfade.training.run_state import read_state
from unfade.training.sequences import PhotoSequences
from unfade.training.vbridge import VBridgeRun, VBridgeTrainer


def _spread(self: object, model: torch.nn.Module, optimizer: torch.optim.AdamW) -> tuple[object, object]:
    """What `Accelerator.prepare` does for FSDP of version 2, which accelerate offers on GPUs only."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    names = [name for name, value in model.named_parameters() if value.requires_grad]
    mesh = init_device_mesh("cpu", (2,))
    for block in model.blocks:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    parameters = dict(model.named_parameters())
    optimizer.param_groups[0]["params"] = [parameters[name] for name in names]
    return model, SimpleNamespace(optimizer=optimizer)


def _work(rank: int, port: int, run: VBridgeRun, spread: bool, *told: object) -> None:
    """One of two processes; forked, so that it has everything imported and the tests' settings."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", RANK=str(rank),
        LOCAL_RANK=str(rank), ACCELERATE_USE_CPU="true", GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1",
    )  # fmt: skip
    if spread:
        Accelerator.prepare = _spread  # type: ignore[method-assign]
        # Nothing is done in place to what the model returns.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    sequences, cache, folder, until = told
    trainer = VBridgeTrainer(run, wan(), sequences, TEXTS, folder, cache=cache)  # type: ignore[arg-type]
    assert trainer.accelerator.num_processes == 2
    trainer.resume()
    trainer.run(until)  # type: ignore[arg-type]
    trainer.export()
    torch.distributed.destroy_process_group()


def _two(*told: object) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    importlib.import_module("torch._dynamo")  # once, before the fork: spreading a model needs it
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_work, args=(rank, port, *told)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]


@pytest.mark.parametrize(("run", "spread"), [(RUN, False), (WHOLE, True)], ids=["copies", "spread"])
def test_two_processes_take_the_steps_of_one(
    run: VBridgeRun, spread: bool, sequences: PhotoSequences, cache: Path, tmp_path: Path
) -> None:
    """Each takes half of every batch; a resumed pair ends as one that never stopped."""
    one = VBridgeTrainer(run, wan(), sequences, TEXTS, tmp_path / "one", cache=cache)
    one.run()
    _two(run, spread, sequences, cache, tmp_path / "two", 4)
    _two(run, spread, sequences, cache, tmp_path / "broken", 1)
    _two(run, spread, sequences, cache, tmp_path / "broken", 4)
    states = {name: read_state(tmp_path / name / "checkpoint.pt") for name in ("one", "two", "broken")}
    for name, value in states["two"]["weights"].items():
        assert torch.equal(states["broken"]["weights"][name], value), name
        torch.testing.assert_close(states["one"]["weights"][name], value, atol=1e-4, rtol=1e-3)
    assert len(states["two"]["weights"]) == len(learnt(one))
    for alone, shared in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert shared["norm"] == pytest.approx(alone["norm"], rel=1e-3)
