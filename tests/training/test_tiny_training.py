"""Real steps of the real trainer on the example photos, made small."""

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import start_processes

from unfade.backbones.tiny import TinyConfig
from unfade.backbones.tiny_weights import load_tiny
from unfade.core import InputError, UsageError
from unfade.degrade import UNSEEN
from unfade.recipes.run_tiny import run_tiny
from unfade.recipes.tiny import RECIPES
from unfade.training import team
from unfade.training.optimizer import orthogonalised, split_parameters
from unfade.training.photos import Photos, load_photos, pack
from unfade.training.samples import SampleRule, draw_mixture, draw_sample
from unfade.training.tiny import TinyRun, TinyTrainer, missing_texture, relative_error

SMALL = TinyConfig(widths=(8, 16, 24), blocks=(1, 1, 1), context=16, buckets=64)
RUN = TinyRun(
    network=SMALL,
    stages=((0.5, 32, 4), (0.5, 40, 4)),
    steps=12,
    warmup=2,
    refine=0.5,
    again=2,
    held_out=1,
    validate_every=100,
    checkpoint_every=3,
)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def photos(examples: Path) -> Photos:
    return load_photos([examples])


def test_resuming_equals_never_stopping(photos: Photos, tmp_path: Path) -> None:
    whole = TinyTrainer(RUN, photos, tmp_path / "whole")
    whole.run()
    TinyTrainer(RUN, photos, tmp_path / "broken").run(until=6)
    second = TinyTrainer(RUN, photos, tmp_path / "broken")
    assert second.resume()
    assert second.step == 6
    second.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
        assert torch.equal(second.average[name], whole.average[name]), name


def test_answers_are_refined_up_to_so_often_before_they_are_learnt_from(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = [RUN.rounds(step) for step in range(3000)]
    assert [round(rounds.count(count) / 1000, 1) for count in range(3)] == [1, 1, 1]
    trainer = TinyTrainer(replace(RUN, refine=1.0), photos, tmp_path)
    torch.nn.init.normal_(trainer.model.leave.weight, std=0.05)
    step = next(step for step in range(100) if RUN.rounds(step) == 2)
    trainer.step = step
    seen: list[bool] = []
    real = trainer.model.forward
    monkeypatch.setattr(
        trainer.model, "forward", lambda *given: (seen.append(torch.is_grad_enabled()), real(*given))[1]
    )
    trainer.train_step()
    # The answer, two rounds that are not learnt from, and one that is.
    assert seen == [True, False, False, True]


def test_refined_answers_are_learnt_from(photos: Photos, tmp_path: Path) -> None:
    gradients: list[torch.Tensor] = []
    for refine in (0.0, 1.0):
        trainer = TinyTrainer(replace(RUN, refine=refine), photos, tmp_path)
        torch.nn.init.normal_(
            trainer.model.leave.weight, std=0.05, generator=torch.Generator().manual_seed(0)
        )
        sample = draw_sample(photos, SampleRule(32, 4, 2), random.Random(0), torch.Generator().manual_seed(0))
        trainer._loss(sample).backward()
        gradient = trainer.model.enter.weight.grad
        assert gradient is not None
        gradients.append(gradient.clone())
    # The first answer's part is the same in both.
    assert float((gradients[1] - gradients[0]).abs().max()) > 0.1 * float(gradients[0].abs().max()) > 0


def test_the_loss_falls_on_one_task(photos: Photos, tmp_path: Path) -> None:
    from unfade.degrade import SINGLE

    trainer = TinyTrainer(RUN, photos, tmp_path)
    sample = draw_sample(
        photos, SampleRule(crop=32, batch=8), random.Random(0), torch.Generator().manual_seed(0),
        kinds=[SINGLE["gaussian-noise"], SINGLE["lowlight"]],
    )  # fmt: skip
    losses = []
    for _ in range(60):
        loss = trainer._loss(sample)
        loss.backward()
        for group in trainer.optimizer.param_groups:
            group["lr"] = 3e-3
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert min(losses[-10:]) < 0.75 * max(losses[:2])


def test_a_sample_is_what_files_would_hold(photos: Photos) -> None:
    sample = draw_sample(
        photos, SampleRule(crop=48, batch=8), random.Random(1), torch.Generator().manual_seed(1)
    )
    assert sample.degraded.shape == sample.clean.shape == (8, 3, 48, 48)
    assert sample.thumbnail.shape == (8, 3, 32, 32)
    assert len(sample.prompts) == 8
    for pixels in (sample.degraded, sample.clean):
        torch.testing.assert_close(pixels * 255, (pixels * 255).round(), atol=1e-3, rtol=0)
        assert 0 <= float(pixels.min())
        assert float(pixels.max()) <= 1


def test_the_loss_is_the_share_of_error_left() -> None:
    clean = torch.zeros(2, 3, 4, 4)
    degraded = torch.stack((torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.1)))
    half = degraded / 2
    assert float(relative_error(half, clean, degraded, 0.03)) == pytest.approx(0.5, abs=3e-3)
    assert float(relative_error(clean, clean, clean, 0.02)) == pytest.approx(0.005 / 0.02, rel=1e-3)


def test_missing_texture_is_the_share_of_local_contrast_that_differs() -> None:
    clean = torch.rand(2, 3, 32, 32)
    even = clean.mean((1, 2, 3), keepdim=True)
    for left, missing in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0), (1.5, 0.5)):
        other = even + left * (clean - even)
        assert float(missing_texture(other, clean)) == pytest.approx(missing, abs=0.03)
    # It is local: the same contrast elsewhere is not what is wanted.
    halves = clean.clone()
    halves[..., 16:] = 0.5
    assert float(missing_texture(halves.flip(3), halves)) > 1
    # Where nothing varies there is nothing to miss, and no gradient runs away.
    flat = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    missing_texture(flat, flat.detach()).backward()
    assert flat.grad is not None and torch.isfinite(flat.grad).all()


def test_a_loss_that_is_not_a_number_keeps_the_state(photos: Photos, tmp_path: Path) -> None:
    trainer = TinyTrainer(RUN, photos, tmp_path)
    trainer.run(until=3)
    with torch.no_grad():
        trainer.model.leave.bias[0] = float("nan")  # type: ignore[index]
    kept = {name: value.clone() for name, value in trainer.average.items()}
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trainer.run()
    assert trainer.step == 3
    assert all(torch.equal(trainer.average[name], value) for name, value in kept.items())
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3


def test_another_networks_checkpoint_is_refused(photos: Photos, tmp_path: Path) -> None:
    from dataclasses import replace

    TinyTrainer(RUN, photos, tmp_path).save()
    other = TinyTrainer(
        replace(RUN, network=TinyConfig(widths=(8, 16, 32), blocks=(1, 1, 1))), photos, tmp_path
    )
    with pytest.raises(InputError, match="another network"):
        other.resume()


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.4


def test_every_parameter_is_trained_exactly_once(photos: Photos, tmp_path: Path) -> None:
    trainer = TinyTrainer(RUN, photos, tmp_path)
    muon, adamw = split_parameters(trainer.model)
    both = [id(parameter) for parameter in (*muon, *adamw)]
    assert len(both) == len(set(both)) == len(list(trainer.model.parameters()))
    assert muon


def test_held_out_photos_are_not_trained_on(photos: Photos) -> None:
    training, held_out = photos.split(1)
    assert len(training) == len(photos) - 1
    assert not set(training.starts.tolist()) & set(held_out.starts.tolist())


def test_packed_photos_are_the_photos(examples: Path, photos: Photos, tmp_path: Path) -> None:
    count = pack([examples], tmp_path / "photos.pack")
    packed = load_photos([tmp_path / "photos.pack"])
    assert count == len(packed) == len(photos)
    assert torch.equal(packed.pixels, photos.pixels)


def test_packing_keeps_to_the_limit(examples: Path, tmp_path: Path) -> None:
    assert pack([examples], tmp_path / "few.pack", limit=1_000_000) < len(list(examples.iterdir()))
    assert (tmp_path / "few.pack").stat().st_size <= 1_000_000


def test_bad_photos_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        load_photos([tmp_path / "absent"])
    with pytest.raises(InputError, match="no photo"):
        load_photos([tmp_path])
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    with pytest.raises(InputError, match=r"torn\.jpg can't be decoded"):
        load_photos([tmp_path])


def test_the_smoke_recipe_leaves_weights_log_and_checkpoint(examples: Path, tmp_path: Path) -> None:
    written = run_tiny([examples], tmp_path, recipe="smoke")
    loaded = load_tiny(written)
    assert loaded.notes["steps"] == "4"
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4
    assert "noise-25" in rows[-1]["psnr"]
    again = load_tiny(run_tiny([examples], tmp_path, recipe="smoke"))
    assert same(again.model, loaded.model)


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_is_a_whole_run(name: str) -> None:
    run = RECIPES[name]()
    assert sum(share for share, _, _ in run.stages) == pytest.approx(1)
    assert 0 < run.rate(0) <= run.lr
    assert run.rate(run.steps) == pytest.approx(0, abs=1e-9)
    assert all(crop % 8 == 0 and batch % run.together == 0 for _, crop, batch in run.stages)


def test_two_workers_share_a_batch_and_resume_exactly(
    examples: Path, tmp_path: Path, forkserver: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Six processes begin here; each would import for longer than it works.
    monkeypatch.setattr(team, "spawn", partial(start_processes, start_method="forkserver"))
    whole = run_tiny([examples], tmp_path / "whole", recipe="smoke", workers=2)
    run_tiny([examples], tmp_path / "broken", recipe="smoke", workers=2, until=2)
    broken = run_tiny([examples], tmp_path / "broken", recipe="smoke", workers=2)
    assert same(load_tiny(broken).model, load_tiny(whole).model)


def test_requests_that_make_no_sense_are_told(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't share a batch"):
        run_tiny([examples], tmp_path, recipe="smoke", workers=3)
    with pytest.raises(UsageError, match="cpu or cuda"):
        run_tiny([examples], tmp_path, recipe="smoke", device="tpu")
    with pytest.raises(UsageError, match="unknown recipe"):
        run_tiny([examples], tmp_path, recipe="large")
    with pytest.raises(InputError, match="too few"):
        run_tiny([examples], tmp_path, recipe="cpu")
    assert not list(tmp_path.iterdir())


def test_a_changed_plan_is_logged(examples: Path, tmp_path: Path) -> None:
    run_tiny([examples], tmp_path, recipe="smoke", until=2)
    run_tiny([examples], tmp_path, recipe="smoke", steps=3)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"step": 2, "changed": {"steps": [4, 3]}} in rows


def test_the_log_of_a_resumed_run_repeats_nothing(photos: Photos, tmp_path: Path) -> None:
    TinyTrainer(RUN, photos, tmp_path).run(until=6)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 8, "loss": 0.5}\n')
    trainer = TinyTrainer(RUN, photos, tmp_path)
    trainer.resume()
    trainer.run(until=9)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [6, 9]


def test_what_is_not_asked_for_stays_in_the_target(examples: Path) -> None:
    photos = load_photos([examples])
    rule = SampleRule(crop=48, batch=8, together=2, partial=1.0)
    sample = draw_sample(photos, rule, random.Random(3), torch.Generator().manual_seed(3))
    plain = draw_sample(
        photos,
        SampleRule(crop=48, batch=8, together=2, partial=0),
        random.Random(3),
        torch.Generator().manual_seed(3),
    )
    assert all(sample.prompts) and None in plain.prompts
    assert float((sample.degraded - sample.clean).abs().mean()) > 0.005


def test_a_mixture_is_asked_to_go_in_part_or_not_at_all() -> None:
    dice = random.Random(0)
    absent = 0
    for _ in range(300):
        kinds, asked = draw_mixture(dice)
        assert len(kinds) > 1 and asked and not UNSEEN.intersection(asked)
        if set(asked) <= set(kinds):
            assert len(asked) < len(kinds)
        else:
            absent += 1
            assert not set(asked) & set(kinds)
    assert 20 < absent < 80


def test_a_share_of_later_corrections_is_written_and_not_learnt_through(
    examples: Path, tmp_path: Path
) -> None:
    written = run_tiny([examples], tmp_path / "first", recipe="smoke")
    assert load_tiny(written).model.config.later == RECIPES["smoke"]().later == 0.5
    run_tiny([examples], tmp_path / "second", recipe="smoke", start=written)
    state = torch.load(tmp_path / "second" / "checkpoint.pt", weights_only=True)
    assert state["plan"]["network"]["later"] == 1.0
