"""Sentences that say what a restoration should achieve."""

from unfade.prompts.goals import goal_sentence
from unfade.prompts.wish import Wish, read_wish

__all__ = ["Wish", "goal_sentence", "read_wish"]
