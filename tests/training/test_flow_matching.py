"""The objective against its formulas and against plain loops."""

import pytest
import torch

from unfade.backbones.wan import build_wan
from unfade.backbones.wan_config import SMALL
from unfade.backbones.wan_denoiser import WanCondition
from unfade.core import generator
from unfade.diffusion.flow import FlowSchedule
from unfade.training.flow_matching import flow_loss, noised, shifted, stratified
from unfade.training.vbridge_run import VBridgeRun


def test_levels_follow_the_shifted_law() -> None:
    run = VBridgeRun(batch=8)
    levels = torch.cat([run.levels(step) for step in range(2500)]).double()
    assert levels.median().item() == pytest.approx(5 / 6, abs=2e-3)
    assert (levels < 0.5).double().mean().item() == pytest.approx(1 / 6, abs=2e-3)
    # P(s < x) = x / (shift - (shift - 1) x), the inverse of the shift.
    for x in (0.1, 0.3, 0.7, 0.95):
        assert (levels < x).double().mean().item() == pytest.approx(x / (5 - 4 * x), abs=3e-3)


def test_the_shift_is_the_samplers() -> None:
    schedule = FlowSchedule(steps=20, shift=5.0)
    ours = shifted(torch.linspace(1, 1 / 1000, 21)[:-1].double(), 5.0) * 1000
    assert ours.tolist() == pytest.approx(list(schedule.times()), abs=1.0)


def test_strata_are_filled_once_each() -> None:
    for count in (1, 8, 13):
        drawn = stratified(count, generator(0, "strata", count))
        assert sorted((drawn * count).floor().int().tolist()) == list(range(count))


def test_the_loss_is_the_formula_sample_by_sample_and_token_by_token() -> None:
    torch.manual_seed(2)
    model = build_wan(SMALL).denoiser.model
    latents, noise = torch.randn(2, 8, 3, 4, 6), torch.randn(2, 8, 3, 4, 6)
    levels, text = torch.tensor([0.3, 0.9]), torch.randn(2, 5, 24)
    errors = []
    for b, s in enumerate(levels.tolist()):
        state = (1 - s) * latents[b] + s * noise[b]
        state[:, 0] = latents[b, :, 0]
        # 2 x 3 patches in each of three latents: the first is at time 0.
        times = torch.tensor([[0.0] * 6 + [1000 * s] * 12])
        with torch.no_grad():
            velocity = model(state[None], times, text[b : b + 1], return_dict=False)[0][0]
        errors.append((velocity - (noise[b] - latents[b])) ** 2)
    loss = flow_loss(model, latents, noise, levels, text, (1, 2, 2))
    assert loss.item() == pytest.approx(torch.stack([e[:, 1:] for e in errors]).mean().item(), rel=1e-5)
    every = flow_loss(model, latents, noise, levels, text, (1, 2, 2), first_latent=True)
    assert every.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_the_time_is_embedded_in_training_as_in_restoring() -> None:
    """Both in fp32, in the middle of arithmetic in bf16."""
    torch.manual_seed(2)
    denoiser = build_wan(SMALL, dtype=torch.bfloat16).denoiser
    seen: list[torch.Tensor] = []
    embedder = denoiser.model.condition_embedder.time_embedder
    embedder.register_forward_hook(lambda module, given, made: seen.append(made))
    latents, noise, text = torch.randn(1, 8, 3, 4, 4), torch.randn(1, 8, 3, 4, 4), torch.randn(1, 5, 24)
    denoiser(noise, 700.0, WanCondition(latents[:, :, :1], text))
    with torch.autocast("cpu", torch.bfloat16):
        flow_loss(denoiser.model, latents, noise, torch.tensor([0.7]), text, (1, 2, 2))
    restoring, training = seen
    assert restoring.dtype == training.dtype == torch.float32
    # 2 x 2 patches in each of three latents, the first of them at time 0.
    each = restoring.repeat_interleave(torch.tensor([4, 8]), dim=1)
    torch.testing.assert_close(training, each, atol=1e-6, rtol=1e-5)


def test_a_perfect_velocity_costs_nothing_and_leads_back() -> None:
    latents, noise = torch.randn(1, 8, 3, 4, 4), torch.randn(1, 8, 3, 4, 4)
    levels = torch.tensor([0.4])

    def perfect(**told: torch.Tensor) -> tuple[torch.Tensor]:
        state = told["hidden_states"]
        torch.testing.assert_close(state[:, :, 1:] - 0.4 * (noise - latents)[:, :, 1:], latents[:, :, 1:])
        assert torch.equal(state[:, :, 0], latents[:, :, 0])
        return (noise - latents,)

    assert flow_loss(perfect, latents, noise, levels, torch.zeros(1, 1, 24), (1, 2, 2)).item() == 0
    assert torch.equal(noised(latents, noise, torch.ones(1))[:, :, 1:], noise[:, :, 1:])
    torch.testing.assert_close(noised(latents, noise, torch.zeros(1)), latents)


def test_the_published_run_counts_as_published() -> None:
    run = VBridgeRun()
    # 1,050 pairs, batches of 8, 300 epochs: 132 steps an epoch, 39,600 in all.
    assert (run.epoch_steps(1050), run.steps(1050)) == (132, 39_600)
    assert [run.size(step, 1050) for step in (0, 13_199, 13_200, 26_400, 99_999)] == [512, 512, 704, 960, 960]
    assert tuple(run.rate(step, 30_001) for step in (0, 99, 30_000)) == pytest.approx((2e-7, 2e-5, 2e-5))
    seen = [index for step in range(132) for index in run.chosen(step, 1050)]
    assert set(seen) == set(range(1050)) and len(seen) == 1056
    assert run.chosen(0, 1050) != run.chosen(132, 1050)
    dropped = torch.cat([run.without_text(step) for step in range(2000)]).float().mean().item()
    assert dropped == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    "wrong", [{"frames": 1}, {"stages": ()}, {"text_dropout": 1.0}, {"batch": 0}, {"lr": 0.0}, {"clip": 0.0}]
)
def test_runs_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        VBridgeRun(**wrong)  # type: ignore[arg-type]
