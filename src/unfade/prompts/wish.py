"""What a sentence asks of the embedded model: goals it knows, and how strongly."""

import re
from dataclasses import dataclass

from unfade.prompts.goals import EVERYTHING, PHRASES

# Share of the way from degraded to restored that is gone, by the words that ask for it.
STRENGTHS: dict[str, float] = {
    "slightly": 0.5,
    "a little": 0.5,
    "a bit": 0.5,
    "strongly": 1.25,
    "heavily": 1.25,
    "a lot": 1.25,
    "as much as possible": 1.25,
}
# Words of the goals' phrases that name no goal by themselves.
_FILLERS = frozenset(
    "a add again and as away bring camera clean clear details fix from higher in into iso it look make more moved "
    "motion of off photo raise reduce remove sensor soft take the this to up wet what".split()
)
_STRENGTH = re.compile(r"\b(" + "|".join(map(re.escape, STRENGTHS)) + r")\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wish:
    """A prompt as it was understood.

    Attributes:
        text: what the model is told; None for "restore everything".
        strength: share of the way to the answer that is wanted, 1 being all of it.
        understood: whether a goal was found in what was said; a prompt without one is blind.
    """

    text: str | None = None
    strength: float = 1.0
    understood: bool = True


def read_wish(prompt: str | None) -> Wish:
    """The wish in a prompt of any length and language.

    Words of strength are taken out of the text and, where several are said, the first one counts.
    """
    if not prompt or not prompt.strip():
        return Wish()
    found = _STRENGTH.search(prompt)
    strength = STRENGTHS[found[1].lower()] if found else 1.0
    text = " ".join(_STRENGTH.sub(" ", prompt).split())
    if not text:
        return Wish(None, strength)
    if not GOAL_WORDS.intersection(re.findall(r"\w+", text.lower())):
        return Wish(None, strength, understood=False)
    return Wish(text, strength)


def _goal_words() -> frozenset[str]:
    phrases = (*(phrase for several in PHRASES.values() for phrase in several), *EVERYTHING[:-1])
    return frozenset(word for phrase in phrases for word in re.findall(r"\w+", phrase.lower())) - _FILLERS


GOAL_WORDS = _goal_words()
