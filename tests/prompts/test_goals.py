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
        assert sentence
        for name in names:
            assert sum(phrase in sentence for phrase in PHRASES[name]) >= 1


def test_without_a_known_goal_there_is_nothing_to_say() -> None:
    assert goal_sentence((), random.Random(0)) is None
    assert goal_sentence(("snow",), random.Random(1)) is None


def test_the_same_dice_say_the_same() -> None:
    assert goal_sentence(("rain",), random.Random(4)) == goal_sentence(("rain",), random.Random(4))


def test_what_stays_is_sometimes_said_and_now_and_then_alone() -> None:
    sentences = [goal_sentence(("lowlight",), random.Random(seed), ("noise",)) or "" for seed in range(200)]
    said = [any(phrase in sentence for phrase in KEPT["noise"]) for sentence in sentences]
    asked = [any(phrase in sentence for phrase in PHRASES["lowlight"]) for sentence in sentences]
    assert 80 < sum(said) < 150
    assert 5 < asked.count(False) < 50
    assert all(kept for kept, goal in zip(said, asked, strict=True) if not goal)
    assert set(KEPT) == set(PHRASES)


def test_what_is_not_there_may_be_kept_as_well() -> None:
    sentences = [goal_sentence(("rain",), random.Random(seed)) or "" for seed in range(200)]
    others = [phrase for name, phrases in KEPT.items() if name != "rain" for phrase in phrases]
    told = [sum(phrase in sentence for phrase in others) for sentence in sentences]
    assert 5 < sum(count > 0 for count in told) < 45
    assert not any("keep the rain" in sentence for sentence in sentences)
