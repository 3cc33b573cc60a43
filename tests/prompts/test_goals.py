"""Sentences name what they should and nothing else."""

import random

import pytest

from unfade.degrade import FOUNDIR, SINGLE
from unfade.degrade.composition import UNSEEN
from unfade.prompts import goal_sentence
from unfade.prompts.goals import KEPT, PHRASES


def test_every_trained_degradation_has_words_and_the_unseen_has_none() -> None:
    trained = {kind.name for kinds in (*FOUNDIR.values(), *SINGLE.values()) for kind in kinds}
    assert trained - {kind.name for kind in UNSEEN} == set(PHRASES)


@pytest.mark.parametrize("names", [("noise",), ("haze", "lowlight"), ("blur", "lowlight", "jpeg")])
def test_a_sentence_names_each_goal_once(names: tuple[str, ...]) -> None:
    for seed in range(50):
        sentence = goal_sentence(names, random.Random(seed))
        for name in names:
            assert sum(phrase in sentence for phrase in PHRASES[name]) >= 1


def test_without_a_known_goal_everything_is_asked_for() -> None:
    sentences = {goal_sentence((), random.Random(seed)) for seed in range(30)}
    assert len(sentences) > 1
    assert not any(phrase in sentence for sentence in sentences for phrase in PHRASES["rain"])
    assert goal_sentence(("snow",), random.Random(1)) == goal_sentence((), random.Random(1))


def test_the_same_dice_say_the_same() -> None:
    assert goal_sentence(("rain",), random.Random(4)) == goal_sentence(("rain",), random.Random(4))


def test_what_stays_is_sometimes_said() -> None:
    sentences = [goal_sentence(("lowlight",), random.Random(seed), ("noise",)) for seed in range(60)]
    said = [any(phrase in sentence for phrase in KEPT["noise"]) for sentence in sentences]
    assert 15 < sum(said) < 45
    assert all(any(phrase in sentence for phrase in PHRASES["lowlight"]) for sentence in sentences)
    assert set(KEPT) == set(PHRASES)
