"""Snow is for evaluation only: nothing that trains may ever draw it."""

import random

from unfade.degrade import FOUNDIR, PROGRESSIONS, UNSEEN, named
from unfade.degrade.weather import Snow
from unfade.training.samples import draw_kinds


def test_snow_is_unseen_and_in_no_group() -> None:
    assert Snow in UNSEEN and named("snow") == (Snow,)
    assert len(FOUNDIR) == 20
    for kinds in (*FOUNDIR.values(), *PROGRESSIONS.values()):
        assert not UNSEEN.intersection(kinds)


def test_training_never_draws_an_unseen_degradation() -> None:
    dice = random.Random(0)
    drawn = [draw_kinds(dice) for _ in range(5000)]
    assert not any(UNSEEN.intersection(kinds) for kinds in drawn)
    assert {kinds for kinds in FOUNDIR.values()} <= set(drawn), "every group is trained on"
