"""Vivid-VR's trainer on small random models of the real classes: what learns, what stays, and what is written."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.small_vivid import RUN, SMALL, Pans, base, embed, noisy, trainer
from torch import Tensor

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_1_5, SMALL_T2V
from unfade.conditioning.control import Controlled
from unfade.conditioning.control_file import load_control, settings_of
from unfade.core import InputError, UsageError, generator
from unfade.degrade.framing import name_of
from unfade.diffusion.v_schedule import VSchedule
from unfade.training.footage_clips import FootagePairs
from unfade.training.progressive_run import ProgressiveRun
from unfade.training.text_to_video import TextToVideoTrainer
from unfade.training.v_objective import controlled_v_loss
from unfade.training.vivid import VividTrainer
from unfade.training.vivid_run import VividRun


def controls(one: VividTrainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in one._bare().control.state_dict().items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[VividTrainer, dict[str, Tensor], Path]:
    """A whole run, what its base and control were before, and where the control went."""
    torch.manual_seed(0)
    one = trainer(tmp_path_factory.mktemp("run"), held_out=FootagePairs(Pans(), noisy))
    before = {
        **{f"base.{name}": value.clone() for name, value in one.video.denoiser.model.state_dict().items()},
        **controls(one),
    }
    one.run()
    return one, before, one.export({"stage": "test"})


def test_control_learns_and_the_base_does_not(
    finished: tuple[VividTrainer, dict[str, Tensor], Path],
) -> None:
    one, before, _ = finished
    for name, value in one.video.denoiser.model.state_dict().items():
        assert torch.equal(value, before[f"base.{name}"]), name
    after = controls(one)
    assert all(not torch.equal(value, before[name]) for name, value in after.items() if value.numel() > 1)


def test_the_log_says_how_close_it_came(finished: tuple[VividTrainer, dict[str, Tensor], Path]) -> None:
    one, _, _ = finished
    rows = [json.loads(line) for line in (one.folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    held = rows[-1]["held_out"]
    assert held.keys() == {"input", "result", "ceiling"} and all(
        math.isfinite(value) for value in held.values()
    )
    pairs = FootagePairs(Pans(), noisy)
    expected = []
    for name in pairs.names:
        low, clean = pairs.draw(
            pairs.names.index(name), (32, 48), 17, generator(RUN.seed, "held out", name, name_of((32, 48)))
        ).chunk(2)
        expected += [-10 * math.log10(float(((a - b) ** 2).mean())) for a, b in zip(low, clean, strict=True)]
    assert held["input"] == pytest.approx(sum(expected) / len(expected), abs=2e-3)
    assert any((one.folder / "pictures").iterdir())


def test_what_is_written_answers_as_what_was_trained(
    finished: tuple[VividTrainer, dict[str, Tensor], Path],
) -> None:
    one, _, path = finished
    assert settings_of(path) == SMALL
    transformer = base().denoiser.model
    read = Controlled(transformer, load_control(path, transformer))
    dice = generator(3)
    x, low = (torch.randn(1, 4, 4, 4, 6, generator=dice) for _ in range(2))
    text, times = torch.randn(1, 12, 24, generator=dice), torch.tensor([400])
    with torch.no_grad():
        torch.testing.assert_close(
            read(x, low, text, times), one._bare()(x, low, text, times), rtol=0, atol=1e-5
        )


def test_a_resumed_run_is_the_unbroken_one(
    finished: tuple[VividTrainer, dict[str, Tensor], Path], tmp_path: Path
) -> None:
    first = trainer(tmp_path)
    first.run(until=2)
    second = trainer(tmp_path)
    assert second.resume() and second.step == 2
    second.run()
    unbroken = controls(finished[0])
    assert all(torch.equal(value, unbroken[name]) for name, value in controls(second).items())
    other = trainer(tmp_path, replace(RUN, control=replace(SMALL, connectors="mlp")))
    with pytest.raises(InputError, match="another model, adapter or control"):
        other.resume()


def test_it_goes_on_from_a_control(
    finished: tuple[VividTrainer, dict[str, Tensor], Path], tmp_path: Path
) -> None:
    one, _, path = finished
    assert all(
        torch.equal(value, controls(one)[name])
        for name, value in controls(trainer(tmp_path, start=path)).items()
    )
    with pytest.raises(UsageError, match="another make"):
        trainer(tmp_path, replace(RUN, control=replace(SMALL, projector=False)), start=path)


def test_the_loss_is_the_formula(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    dice = generator(5)
    clean, noise, low = (torch.randn(2, 4, 4, 4, 6, generator=dice) for _ in range(3))
    text, times = torch.randn(2, 12, 24, generator=dice), torch.tensor([100, 900])
    a = VSchedule(config=SMALL_T2V.scheduler).signal()[times].float().reshape(2, 1, 1, 1, 1)
    with torch.no_grad():
        found = controlled_v_loss(one.model, clean, noise, times, a.flatten(), low, text)
        parts = []
        for index in range(2):
            state = a[index].sqrt() * clean[index] + (1 - a[index]).sqrt() * noise[index]
            v = a[index].sqrt() * noise[index] - (1 - a[index]).sqrt() * clean[index]
            told = one._bare()(state[None], low[index][None], text[index][None], times[index][None])
            parts.append(((told[0] - v) ** 2).mean())
    torch.testing.assert_close(found, torch.stack(parts).mean(), rtol=1e-4, atol=1e-5)


def test_shorter_clips_are_the_beginning_of_longer_ones(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    vae, clip = one.video.vae, torch.rand(17, 3, 32, 48, generator=generator(6))
    whole, part = (vae.encode_frames(clip[:count]) for count in (17, 9))
    torch.testing.assert_close(whole[:, :, : part.shape[2]], part, rtol=1e-4, atol=1e-5)
    low, clean = one._pair(0, (32, 48), 0, 9)
    longer = one._pair(0, (32, 48), 0, 17)
    assert low.shape == clean.shape == (4, 4, 4, 6) and longer.shape == (2, 4, 6, 4, 6)
    # A copy of the first latent stands in front.
    assert torch.equal(low[:, 0], low[:, 1]) and torch.equal(longer[0, :, 1:4], low[:, 1:])
    assert not torch.equal(low, clean)


def test_lengths_rates_and_times() -> None:
    run = VividRun()
    counts = Counter(run.length(step) for step in range(300))
    assert set(counts) == {17, 25, 33} and min(counts.values()) > 70
    assert run.steps(7) == 30_000 and run.rate(0, 30_000) == pytest.approx(1e-6)
    assert run.rate(15_000, 30_000) == pytest.approx(5e-5) and run.rate(29_999, 30_000) < 1e-8
    assert len(set((run.times(3) * 32 // 1000).tolist())) == 32
    with pytest.raises(UsageError, match="no number of frames 8k"):
        VividRun(frames=24, least_frames=18)
    for wrong, told in (
        ("iterations", "iterations"),
        ("cooling", "half a cosine"),
        ("least_frames", "least_frames"),
    ):
        with pytest.raises(ValueError, match=told):
            VividRun(**{wrong: 0.1 if wrong == "cooling" else 0})  # type: ignore[arg-type]


def test_a_base_in_bfloat16_learns_in_float32(tmp_path: Path) -> None:
    video = base()
    video.denoiser.model.to(torch.bfloat16)  # type: ignore[call-arg]
    one = trainer(tmp_path, replace(RUN, precision="bf16", batch=1), video)
    before = controls(one)
    found = one.train_step()
    assert math.isfinite(found["loss"]) and all(value.dtype == torch.float32 for value in before.values())
    one.train_step()
    assert any(not torch.equal(value, before[name]) for name, value in controls(one).items())
    assert all(value.dtype == torch.bfloat16 for value in video.denoiser.model.parameters())


def test_a_base_learns_captioned_clips(tmp_path: Path) -> None:
    run = ProgressiveRun(
        stages=((2, (32, 48)),), lora=None, image_noise=None, lr=1e-3, warmup=1, batch=2, precision="fp32"
    )
    one = TextToVideoTrainer(run, base(), Pans(), embed, tmp_path)
    before = [parameter.clone() for parameter in one.model.parameters()]
    one.run()
    assert one.step == 2
    assert all(not torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True))
    with pytest.raises(UsageError, match="shown a photo"):
        TextToVideoTrainer(run, build_cogvideox(SMALL_1_5), Pans(), embed, tmp_path)
