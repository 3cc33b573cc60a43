"""Branch, train, merge: specialists of a network, and one that has all their skills."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unfade.backbones.kernels import Kernels
from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny, TinyConfig, thumbnail_of
from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.core import InputError, UsageError
from unfade.degrade import FOUNDIR, SINGLE
from unfade.recipes.run_skills import run_skills
from unfade.recipes.run_tiny import run_tiny
from unfade.training.families import DEEP, FAMILIES, NAMES, REST, SKILLS, draw_of, family_of
from unfade.training.photos import Photos, load_photos
from unfade.training.skills import ChoiceRun, fit_choice, merged
from unfade.training.tiny import TinyRun, TinyTrainer

SMALL = TinyConfig(widths=(8, 16, 24), blocks=(1, 1, 1), skills=(1, 1, 1), context=16, buckets=64)
RUN = TinyRun(
    network=SMALL, steps=3, stages=((1.0, 32, 8),), warmup=1, refine=0, held_out=2, validate_every=9
)


@pytest.fixture(scope="module")
def photos(examples: Path) -> Photos:
    return load_photos([examples])


def awake(seed: int) -> Tiny:
    torch.manual_seed(seed)
    model = Tiny(SMALL)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def specialists_of(base: Tiny) -> dict[str, dict[str, torch.Tensor]]:
    """Copies that differ in their kernels."""
    kernels = {name for name, part in base.named_modules() if isinstance(part, Kernels)}
    states = {}
    for index, family in enumerate(NAMES):
        drawn = torch.Generator().manual_seed(index)
        states[family] = {
            name: value + 0.1 * torch.randn(value.shape, generator=drawn)
            if name.rpartition(".")[0] in kernels
            else value
            for name, value in base.state_dict().items()
        }
    return states


def test_every_family_is_drawn_as_itself() -> None:
    dice = random.Random(0)
    for family in NAMES:
        assert {family_of(draw_of(family, dice)) for _ in range(60)} == {family}
    assert family_of(()) == REST == family_of(FOUNDIR["Blur_Noise_JPEG"])
    assert {name for group in DEEP for name in group} == set(NAMES)
    assert SKILLS == TinyConfig().skills
    assert family_of(SINGLE["defocus"]) == "blur"
    assert all(abs(sum(share for share, _ in family) - 1) < 1e-9 for family in FAMILIES.values())


def test_a_specialist_changes_its_kernels_and_nothing_else(photos: Photos, tmp_path: Path) -> None:
    base = awake(0)
    trainer = TinyTrainer(replace(RUN, family="noise"), photos, tmp_path)
    trainer.start_from(base)
    trainer.run()
    kernels = {name for name, part in base.named_modules() if isinstance(part, Kernels)}
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, base.state_dict()[name]) != (name.rpartition(".")[0] in kernels), name


@pytest.mark.parametrize("family", NAMES)
def test_a_merged_network_that_takes_one_skill_is_that_specialist(family: str) -> None:
    base = awake(0)
    states = specialists_of(base)
    model = merged(base, states).eval()
    assert model.config.skills == SKILLS
    assert model.skills is not None
    # At an eighth of the size families share a skill, the mean of theirs.
    group = next(index for index, names in enumerate(DEEP) if family in names)
    states[family] |= {
        name: torch.stack([states[one][name] for one in DEEP[group]]).mean(0)
        for name in states[family]
        if name.startswith("bottom.")
    }
    torch.nn.init.zeros_(model.skills.choose.weight)
    wanted = [NAMES.index(family), len(NAMES) + NAMES.index(family), 2 * len(NAMES) + group]
    with torch.no_grad():
        model.skills.choose.bias.fill_(-60)
        model.skills.choose.bias[wanted] = 60
    alone = awake(1)
    alone.load_state_dict(states[family])
    x = torch.rand(2, 3, 32, 40)
    with torch.inference_mode():
        answers = [
            one(x, torch.zeros(2), x, one.context(thumbnail_of(x), [None, "brighten it"]), spectrum_of(x))
            for one in (model, alone)
        ]
    torch.testing.assert_close(*answers, atol=2e-5, rtol=0)


def test_what_has_skills_is_not_merged_again() -> None:
    base = awake(0)
    with pytest.raises(InputError, match="skills already"):
        merged(merged(base, specialists_of(base)), specialists_of(base))


def test_the_choice_is_learnt_from_spectra(photos: Photos) -> None:
    base = awake(0)
    model = merged(base, specialists_of(base))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told: list[tuple[int, float]] = []
    run = ChoiceRun(steps=300, crop=64, batch=16, lr=4e-3)
    fit_choice(model, photos, run, lambda step, right: told.append((step, right)))
    assert [step for step, _ in told] == [100, 200, 300]
    assert told[-1][1] > 0.6 > 2 / len(NAMES)
    for name, value in model.state_dict().items():
        assert name.startswith("skills.") or torch.equal(value, before[name]), name


def test_from_weights_to_weights_with_skills_and_on(examples: Path, tmp_path: Path) -> None:
    base = awake(0)
    save_tiny(base, base.state_dict(), tmp_path / "base.safetensors", {})
    runs = tmp_path / "runs"
    choice = ChoiceRun(steps=2, crop=32, batch=8)

    def skilled() -> Path:
        return run_skills([examples], tmp_path / "base.safetensors", runs, specialist=RUN, choice=choice)

    written = skilled()
    model = load_tiny(written).model
    assert model.config == replace(SMALL, skills=SKILLS)
    assert (runs / "blur" / "log.jsonl").exists()
    # All specialists are done: nothing is trained again, and the same comes out.
    for name, value in load_tiny(skilled()).model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    with pytest.raises(InputError, match="skills already"):
        run_skills([examples], written, tmp_path / "again", specialist=RUN)
    further = run_tiny([examples], tmp_path / "further", recipe="smoke", start=written)
    assert load_tiny(further).model.config.skills == SKILLS


def test_workers_that_cant_share_a_batch_are_told(examples: Path, tmp_path: Path) -> None:
    base = awake(0)
    save_tiny(base, base.state_dict(), tmp_path / "base.safetensors", {})
    with pytest.raises(UsageError, match="can't share a batch"):
        run_skills([examples], tmp_path / "base.safetensors", tmp_path / "runs", specialist=RUN, workers=3)
