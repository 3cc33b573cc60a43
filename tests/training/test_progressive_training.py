"""Progressive's objective as formulas, and real steps of the trainer on small random models of the real classes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unfade.backbones.cogvideox import CogVideoX, build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_1_5
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, velocity
from unfade.conditioning.lora import LoraSettings, load_adapter
from unfade.core import InputError, UnfadeError
from unfade.degrade import PROGRESSIONS
from unfade.degrade.blur import DirectionalBlur
from unfade.diffusion.v_schedule import VSchedule
from unfade.training.photos import load_photos
from unfade.training.progression import ProgressionSequences
from unfade.training.progressive import ProgressiveTrainer
from unfade.training.progressive_run import ProgressiveRun
from unfade.training.v_objective import drawn_times, evened, v_loss, v_target

RUN = ProgressiveRun(
    stages=((1, (32, 48)),),
    lora=LoraSettings(rank=4, alpha=2.0, targets=("to_q", "to_k", "to_v", "to_out.0")),
    lr=1e-3,
    warmup=2,
    batch=3,
    precision="fp32",
    checkpoint_every=2,
    validate_every=100,
    validate_steps=2,
    log_every=1,
)


def model() -> CogVideoX:
    torch.manual_seed(4)
    return build_cogvideox(SMALL_1_5)


def embed(prompts: object) -> list[torch.Tensor]:
    """Embeddings that differ from prompt to prompt."""
    assert isinstance(prompts, list)
    return [
        torch.randn(1, 12, 24, generator=torch.Generator().manual_seed(sum(map(ord, prompt))))
        for prompt in prompts
    ]


class Few:
    """The first photos of many."""

    def __init__(self, photos: object, count: int) -> None:
        self.photos, self.count = photos, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.photos[index]  # type: ignore[index]


@pytest.fixture(scope="module")
def sequences(examples: Path) -> ProgressionSequences:
    return ProgressionSequences(Few(load_photos([examples]), 1))


def learnt(trainer: ProgressiveTrainer) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().clone()
        for name, value in trainer.video.denoiser.model.named_parameters()
        if value.requires_grad
    }


def test_v_is_what_the_formulas_say() -> None:
    clean, noise = torch.randn(2, 3, 4, 4, 2, 2).unbind(0)
    signal = torch.tensor([0.0, 0.3, 1.0])
    state, v = v_target(clean, noise, signal)
    torch.testing.assert_close(state[0], noise[0])
    torch.testing.assert_close(v[0], -clean[0])
    torch.testing.assert_close(state[2], clean[2])
    torch.testing.assert_close(v[2], noise[2])
    # The clean latents follow from state and v: what diffusers' schedulers compute.
    a = signal.reshape(-1, 1, 1, 1, 1)
    torch.testing.assert_close(a.sqrt() * state - (1 - a).sqrt() * v, clean)


def test_the_schedule_of_training_is_that_of_sampling() -> None:
    """CogVideo's trainer: zero terminal SNR, and the error of x0 over 1 - a is that of v."""
    signal = VSchedule(config=SMALL_1_5.scheduler).signal()
    assert signal.shape == (1000,) and float(signal[-1]) == 0 and bool((signal.diff() < 0).all())
    clean, noise, answer = torch.randn(3, 1, 4, 4, 2, 2, dtype=torch.float64).unbind(0)
    a = signal[[500]]
    state, v = v_target(clean, noise, a)
    a = a.reshape(-1, 1, 1, 1, 1)
    x0 = a.sqrt() * state - (1 - a).sqrt() * answer
    torch.testing.assert_close(((x0 - clean) ** 2 / (1 - a)).mean(), ((answer - v) ** 2).mean())


def test_times_are_uniform_and_spread_over_the_batch() -> None:
    times = torch.stack([drawn_times(8, torch.Generator().manual_seed(seed)) for seed in range(2000)])
    assert int(times.min()) == 0 and int(times.max()) == 999
    assert bool(((times.sort(dim=1).values // 125) == torch.arange(8)).all())
    assert float(times.float().mean()) == pytest.approx(499.5, abs=5)
    assert float(times.float().std()) == pytest.approx(288.7, abs=5)


def test_late_times_take_the_share_they_are_given() -> None:
    dice = [torch.Generator().manual_seed(seed) for seed in range(500)]
    times = torch.stack([drawn_times(8, one, late=0.5) for one in dice])
    assert int(times.min()) == 0 and int(times.max()) == 999
    # Four of eight in every step, and evenly within both parts.
    assert bool(((times >= 800).sum(1) == 4).all())
    assert float(times[times >= 800].float().mean()) == pytest.approx(899.5, abs=4)
    assert float(times[times < 800].float().mean()) == pytest.approx(399.5, abs=15)
    with pytest.raises(ValueError, match="late must be above 0 and below 1, not 1"):
        replace(RUN, late=1)
    assert bool((replace(RUN, late=0.4, batch=5).times(3) >= 800).sum() == 2)


def test_the_time_is_embedded_in_training_as_in_restoring() -> None:
    """In bf16 both, as CogVideoX was trained, whether it learns whole in fp32 or restores from bf16 weights."""
    seen: list[torch.Tensor] = []
    shape = SMALL_1_5.latent_shape(9, 32, 48)
    condition = CogVideoXCondition(torch.randn(1, shape[0], 1, *shape[2:]), torch.randn(1, 12, 24))
    for learns in (True, False):
        denoiser = model().denoiser
        denoiser.model.to(torch.float32 if learns else torch.bfloat16)  # type: ignore[arg-type]
        denoiser.model.time_embedding.register_forward_hook(lambda module, given, made: seen.append(made))
        with torch.autocast("cpu", torch.bfloat16, enabled=learns):
            denoiser(torch.randn(1, *shape), 400.0, condition)
    assert seen[0].dtype == seen[1].dtype == torch.bfloat16 and torch.equal(*seen)


def test_later_latents_can_weigh_more() -> None:
    video = model()
    shape = SMALL_1_5.latent_shape(9, 32, 48)
    clean, noise = torch.randn(2, 1, *shape).unbind(0)
    condition = CogVideoXCondition(torch.randn(1, shape[0], 1, *shape[2:]), torch.randn(1, 12, 24))
    times, signal = torch.tensor([400]), torch.tensor([0.4])
    given = (clean, noise, times, signal, condition)
    with torch.no_grad():
        plain, weighed = (v_loss(video.denoiser.model, *given, later=later) for later in (1.0, 3.0))
        state, v = v_target(clean, noise, signal)
        each = (velocity(video.denoiser.model, state, times, condition) - v).square().mean((0, 1, 3, 4))
    torch.testing.assert_close(plain, each.mean())
    # The photo's own latent and its copy in front, then two that get better.
    torch.testing.assert_close(weighed, (each[:2].sum() + 3 * each[2:].sum()) / 8)


def test_samples_that_change_little_can_count_as_much() -> None:
    video = model()
    shape = SMALL_1_5.latent_shape(9, 32, 48)
    clean, noise = torch.randn(2, 3, *shape).unbind(0)
    clean[0, :, 3] = clean[0, :, 1]
    clean[1, :, 3] = clean[1, :, 1] + 0.5
    clean[2, :, 3] = clean[2, :, 1] - 3
    weights = evened(clean, 0.25)
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5, 0.25 / 9.25]))
    times, signal = torch.tensor([100, 500, 999]), torch.tensor([0.9, 0.4, 0.0])
    condition = CogVideoXCondition(torch.randn(3, shape[0], 1, *shape[2:]), torch.randn(3, 12, 24))
    given = (clean, noise, times, signal, condition)
    with torch.no_grad():
        plain, weighed = (v_loss(video.denoiser.model, *given, even=even) for even in (None, 0.25))
        state, v = v_target(clean, noise, signal)
        each = (velocity(video.denoiser.model, state, times, condition) - v).square().mean((1, 2, 3, 4))
    torch.testing.assert_close(plain, each.mean())
    torch.testing.assert_close(weighed, (weights * each).mean())
    with pytest.raises(ValueError, match="even must be above 0, not 0"):
        replace(RUN, even=0)


def test_the_published_recipe_weighs_all_samples_and_times_alike() -> None:
    run = ProgressiveRun()
    assert (run.even, run.late, run.later, run.crops) == (None, None, 1.0, 1)


def test_kinds_of_ones_own_are_drawn_and_told_apart(sequences: ProgressionSequences) -> None:
    class Faint(DirectionalBlur):
        name = "faint-blur"
        lengths = ((2, 3), (4, 5))

    own = replace(sequences, kinds={**PROGRESSIONS, "blur": (Faint,)})
    index = sequences.names.index("blur/photo-00000-strong")
    drawn = [one.draw(index, 32, 2, torch.Generator().manual_seed(1)) for one in (sequences, own)]
    assert torch.equal(drawn[0][1], drawn[1][1])
    errors = [float((clip[0] - clip[1]).abs().mean()) for clip in drawn]
    assert 0 < errors[1] < errors[0]
    assert own.identity(index) != sequences.identity(index)
    assert own.identity(0) == sequences.identity(0)


def test_resuming_equals_never_stopping(sequences: ProgressionSequences, cache: Path, tmp_path: Path) -> None:
    straight = ProgressiveTrainer(RUN, model(), sequences, embed, tmp_path / "straight", cache=cache)
    straight.run()
    assert straight.step == straight.steps == 2
    ProgressiveTrainer(RUN, model(), sequences, embed, tmp_path / "broken", cache=cache).run(until=1)
    second = ProgressiveTrainer(RUN, model(), sequences, embed, tmp_path / "broken", cache=cache)
    assert second.resume() and second.step == 1
    second.run()
    for name, value in learnt(straight).items():
        assert torch.equal(learnt(second)[name], value), name
    rows = [
        [json.loads(line)["loss"] for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        for folder in ("straight", "broken")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 2


@pytest.mark.parametrize("whole", [False, True], ids=["lora", "whole"])
def test_it_learns_one_photo(
    whole: bool, sequences: ProgressionSequences, cache: Path, tmp_path: Path
) -> None:
    run = replace(RUN, lora=None if whole else RUN.lora, lr=1e-2, text_dropout=0.0, batch=6)
    trainer = ProgressiveTrainer(run, model(), sequences, embed, tmp_path, cache=cache)
    losses = [trainer.train_step()["loss"] for _ in range(40)]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_latents_are_the_photo_and_the_clip(
    sequences: ProgressionSequences, cache: Path, tmp_path: Path
) -> None:
    trainer = ProgressiveTrainer(
        replace(RUN, image_noise=None), model(), sequences, embed, tmp_path, cache=cache
    )
    both = trainer.store(0, (32, 48), 0)
    vae, config = trainer.video.vae, trainer.video.config
    assert both.shape == (4, 1 + 3, 4, 6)
    # Zero where the clip's scale and the photo's are not each their own.
    assert config.latent_scale != config.image_scale
    from unfade.core import generator

    dice = generator(RUN.seed, "crop", sequences.names[0], "32 x 48", 0)
    clip = sequences.draw(0, (32, 48), 9, dice)
    torch.testing.assert_close(both[None, :, :1], vae.encode_image(clip[:1]))
    torch.testing.assert_close(both[None, :, 1:], vae.encode(clip.transpose(0, 1)[None]))


def test_what_is_kept_is_encoded_in_fp32_whatever_learns_in_bf16(
    sequences: ProgressionSequences, tmp_path: Path
) -> None:
    kept: list[torch.Tensor] = []
    for precision in ("bf16", "fp32"):
        run = replace(RUN, precision=precision)  # type: ignore[type-var]
        trainer = ProgressiveTrainer(run, model(), sequences, embed, tmp_path / precision)
        trainer.train_step()
        assert trainer.store.encoded == 3
        chosen = run.chosen(0, len(sequences))[0]
        kept.append(trainer.store(chosen, (32, 48), 0))
        assert trainer.store.found == 1
    assert torch.equal(*kept)


def test_noise_on_the_photo_is_that_of_the_papers_base() -> None:
    photo = torch.full((1, 3, 64, 64), 0.5)
    spreads = torch.stack(
        [(RUN.seen(photo, torch.Generator().manual_seed(seed)) - photo).std() * 2 for seed in range(300)]
    )
    assert float(spreads.log().mean()) == pytest.approx(-3, abs=0.1)
    assert float(spreads.log().std()) == pytest.approx(0.5, abs=0.06)
    assert torch.equal(replace(RUN, image_noise=None).seen(photo, torch.Generator()), photo)


def test_a_trained_adapter_restores_and_validates(
    sequences: ProgressionSequences, cache: Path, tmp_path: Path
) -> None:
    run = replace(RUN, validate_every=2)
    trainer = ProgressiveTrainer(run, model(), sequences, embed, tmp_path, held_out=sequences, cache=cache)
    trainer.run()
    held_out = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["held_out"]
    assert len(held_out["frames"]) == 9
    for figure in ("gains", "results", "rises"):
        assert set(held_out[figure]) == {"resolution", "blur", "lowlight"}
    mean = sum(held_out["results"].values()) / 3
    assert mean == pytest.approx(held_out["result"], abs=2e-3)
    assert sum(held_out["rises"].values()) / 3 == pytest.approx(mean - held_out["frames"][0], abs=2e-3)
    path = trainer.export({"stage": "test"})
    again = model()
    told = load_adapter(again.denoiser.model, path, "restore", {})
    # Alpha travels with the file, so no loader takes it for the rank.
    assert (float(told["alpha"]), int(told["rank"])) == (2.0, 4)
    given = torch.randn(1, *SMALL_1_5.latent_shape(9, 32, 48))
    condition = CogVideoXCondition(torch.randn(1, 4, 1, 4, 6), embed(["x"])[0])
    trained = trainer.video.denoiser.model.eval()
    with torch.inference_mode():
        mine, theirs = (
            velocity(one, given, torch.tensor([700]), condition) for one in (trained, again.denoiser.model)
        )
    torch.testing.assert_close(mine, theirs)


def test_a_checkpoint_of_another_system_is_refused(
    sequences: ProgressionSequences, cache: Path, tmp_path: Path
) -> None:
    trainer = ProgressiveTrainer(RUN, model(), sequences, embed, tmp_path, cache=cache)
    trainer.run(until=1)
    other = ProgressiveTrainer(
        replace(RUN, lora=replace(RUN.lora, rank=2)),  # type: ignore[type-var]
        model(),
        sequences,
        embed,
        tmp_path,
        cache=cache,
    )
    with pytest.raises(InputError, match="another model, adapter or control"):
        other.resume()


def test_a_loss_that_is_no_number_keeps_the_state(
    sequences: ProgressionSequences, cache: Path, tmp_path: Path
) -> None:
    trainer = ProgressiveTrainer(RUN, model(), sequences, embed, tmp_path, cache=cache)
    trainer.run(until=1)
    before = learnt(trainer)
    trainer.embed = lambda prompts: [torch.full((1, 12, 24), float("nan"))] * len(prompts)
    with pytest.raises(UnfadeError, match="not a number"):
        trainer.run()
    for name, value in learnt(trainer).items():
        assert torch.equal(before[name], value)
