"""What a sentence asks of the embedded model: goals it knows, how strongly, and how bright it should become."""

import re
from dataclasses import dataclass

from unfade.prompts.goals import EVERYTHING, PHRASES
from unfade.prompts.vbridge import PROMPT

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
# "to 40 %", "at a mean brightness of 40 percent"; that it is of light is said in it, or before it in its clause.
_LEVEL = re.compile(
    r"\b(?:to|at|with) (?:(?:an? |the )?(?:(?:mean|average) )?brightness (?:of )?)?(\d{1,3}(?:\.\d+)?) ?(?:%|percent\b)"
    r"(?: brightness\b)?",
    re.IGNORECASE,
)
_LIGHT = re.compile(r"\b(?:bright|light)\w*", re.IGNORECASE)
_CLAUSE = re.compile(r"[.,;]|\band\b", re.IGNORECASE)
_STRENGTH = re.compile(r"\b(" + "|".join(map(re.escape, STRENGTHS)) + r")\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wish:
    """A prompt as it was understood.

    Attributes:
        text: what the model is told; None for "restore everything", said or unsaid.
        strength: share of the way to the answer that is wanted, 1 being all of it.
        understood: whether a goal was found in what was said; a prompt without one is blind.
        brightness: mean level of the result's pixels that is wanted, 0 black to 1 white; None where it wasn't said.
    """

    text: str | None = None
    strength: float = 1.0
    understood: bool = True
    brightness: float | None = None


def read_wish(prompt: str | None) -> Wish:
    """The wish in a prompt of any length and language.

    Words of strength and of brightness ("brighten it to 40 %", but not "denoise it to 40 %") are taken out of the text;
    where several are said, the first one counts. More than 100 % means nothing.
    """
    if not prompt or not prompt.strip():
        return Wish()
    found = _STRENGTH.search(prompt)
    strength = STRENGTHS[found[1].lower()] if found else 1.0
    named = [level for level in _LEVEL.finditer(prompt) if _is_of_light(level)]
    brightness = float(named[0][1]) / 100 if named and float(named[0][1]) <= 100 else None
    text = _LEVEL.sub(lambda level: " " if _is_of_light(level) else level[0], prompt)
    text = " ".join(_STRENGTH.sub(" ", text).split())
    words = _words(text)
    if not text or words == _words(PROMPT):
        return Wish(None, strength, True, brightness)
    if words & GOAL_WORDS:
        return Wish(text, strength, True, brightness)
    understood = brightness is not None or bool(words & WHOLE_WORDS)
    return Wish(None, strength, understood, brightness)


def _is_of_light(level: re.Match[str]) -> bool:
    clause = _CLAUSE.split(level.string[: level.start()])[-1]
    return _LIGHT.search(clause + level[0]) is not None


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in re.findall(r"\w+", text.lower()))


WHOLE_WORDS = _words(*EVERYTHING) - _FILLERS
GOAL_WORDS = _words(*(phrase for several in PHRASES.values() for phrase in several)) - _FILLERS - WHOLE_WORDS
