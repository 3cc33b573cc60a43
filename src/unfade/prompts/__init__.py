"""Sentences that say what a restoration should achieve."""

from unfade.prompts.goals import goal_sentence

__all__ = ["goal_sentence"]
