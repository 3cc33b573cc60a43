"""What a name stands for, and that what it stands for is drawn once."""

import pytest
import torch
from torch import Tensor

from unfade.degrade import FOUNDIR, PROGRESSIONS, SINGLE, draw_composition, named

KNOWN = {**FOUNDIR, **SINGLE, **PROGRESSIONS}


@pytest.mark.parametrize("name", KNOWN)
def test_every_name_is_found_as_it_is_and_in_capitals(name: str) -> None:
    assert named(name) == KNOWN[name]
    assert named(name.upper()) in [kinds for key, kinds in KNOWN.items() if key.lower() == name.lower()]


def test_the_exact_name_wins() -> None:
    assert named("Blur") == FOUNDIR["Blur"]
    assert named("lowlight+JPEG+jpeg") == (*KNOWN["lowlight"], *KNOWN["JPEG"], *KNOWN["jpeg"])
    assert named("blur") == PROGRESSIONS["blur"] != FOUNDIR["Blur"]


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown degradation 'fog'.*haze"):
        named("fog")
    with pytest.raises(ValueError, match=r"a name missing beside a \+ in 'haze\+'"):
        named("haze+")


@pytest.mark.parametrize("name", FOUNDIR)
def test_nothing_is_drawn_between_two_calls(name: str, photo: Tensor) -> None:
    drawn = draw_composition(FOUNDIR[name], torch.Generator().manual_seed(0), (1, *photo.shape[2:]))
    assert torch.equal(drawn(photo, 0.6), drawn(photo, 0.6))
