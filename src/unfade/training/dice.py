"""What is random in a training in bare PyTorch, kept so that a run goes on as if never stopped."""

import random
from typing import Any

import torch

from unfade.core import subseed
from unfade.training.team import Team


class Dice:
    """Choices and fields of one member of a team.

    Attributes:
        choices: for what is decided.
        fields: for tensors, on the device where they are made.
    """

    def __init__(self, seed: int, team: Team, device: torch.device) -> None:
        self.team = team
        self.choices = random.Random(subseed(seed, "dice", team.rank))
        self.fields = torch.Generator(device).manual_seed(subseed(seed, "fields", team.rank))

    def state(self) -> list[Any]:
        """Of the whole team, who call this together."""
        return self.team.gather((self.choices.getstate(), self.fields.get_state()))

    def load(self, states: list[Any]) -> None:
        """Takes up what `state` gave; exact with a team of the same size."""
        if self.team.rank < len(states):
            (version, internal, gauss), fields = states[self.team.rank]
            self.choices.setstate((version, tuple(internal), gauss))
            self.fields.set_state(fields.cpu())
