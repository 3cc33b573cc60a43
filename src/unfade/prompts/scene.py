"""Which prompt a photo gets, and why: the user's own, one that fits the scene, or the uniform one."""

import re
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from unfade.prompts.progressive import TAIL, Task, uniform_prompt
from unfade.prompts.rules import broken_rules, count_words

Source = Literal["user", "scene", "uniform"]


@dataclass(frozen=True, slots=True)
class ChosenPrompt:
    """A prompt and where it comes from.

    Attributes:
        text: what the model is told.
        source: "user" for the user's own words, "scene" for a prompt that fits the photo, "uniform" for the
            task's fixed one.
        why: one sentence.
        caption: what the captioner said, whether it was used or not; None where none was asked.
    """

    text: str
    source: Source
    why: str
    caption: str | None = None


class Captioner(Protocol):
    """Says what is in a picture and what is to become of it."""

    @property
    def name(self) -> str:
        """Of the captioner, as the user types it."""
        ...

    def __call__(self, picture: Tensor, task: Task) -> str:
        """A text for `picture` `[3, H, W]` in [0, 1], which is to become better in the way of `task`."""
        ...

    @property
    def identity(self) -> str:
        """What decides its texts; another identity may say something else of the same picture."""
        ...

    @property
    def instructed(self) -> bool:
        """Whether its texts are whole prompts, with what was seen on a line of its own before them where they name
        things; else they are plain captions that still need the goal."""
        ...


def own_prompt(text: str | None) -> ChosenPrompt | None:
    """The user's own prompt as it is, but for its white space; None where nothing was said."""
    text = " ".join(text.split()) if text else ""
    return ChosenPrompt(text, "user", "it is your own, which always wins") if text else None


def plain_prompt(task: Task) -> ChosenPrompt:
    """The uniform prompt of a task."""
    return ChosenPrompt(uniform_prompt(task), "uniform", f"it is the fixed prompt of the task {task}")


def scene_prompt(picture: Tensor, task: Task, captioner: Captioner) -> ChosenPrompt:
    """A prompt that fits the picture, or the uniform one where the captioner breaks the rules.

    Args:
        picture: `[3, H, W]` in [0, 1]. At test time the degraded photo, never the truth: a caption of the truth
            would tell what is to be found.
        task: whose goal the prompt keeps.
        captioner: what looks at it.
    """
    return refined_prompt(captioner(picture, task), task, captioner.name, captioner.instructed)


def refined_prompt(caption: str, task: Task, captioner: str, instructed: bool) -> ChosenPrompt:
    """A captioner's text made a prompt, or the uniform one where that would break the rules.

    Args:
        caption: what was said of the picture.
        task: whose goal the prompt keeps.
        captioner: its name, for the reason.
        instructed: whether the text is a whole prompt already, up to its tail. Things that it names must be named in
            the lines before it; a single line may name none.
    """
    if instructed:
        seen, text = _parted(caption)
        text = _with_tail(text)
    else:
        seen = " ".join(caption.split())
        text = _with_goal(seen, task)
    if broken := broken_rules(text, task, seen):
        why = f"the text of {captioner} breaks a rule: {'; '.join(broken)}; so the uniform prompt is used"
        return ChosenPrompt(uniform_prompt(task), "uniform", why, caption)
    why = f"{captioner} looked at the photo, and its text of {count_words(text)} words keeps every rule"
    return ChosenPrompt(text, "scene", why, caption)


# What follows a plain caption; each keeps to the words that `rules` lets every prompt have.
_BECOMING: dict[Task, str] = {
    "resolution": "gradually becomes sharper and higher in resolution, with fine details and clear textures, "
    "while everything stays in its place",
    "blur": "gradually becomes sharp as the blur fades, with crisp edges and clear details, "
    "while everything stays in its place",
    "lowlight": "gradually becomes brighter, with natural colors, visible details and less noise, "
    "while everything stays in its place",
}


_GOAL_IN_WORDS: dict[Task, str] = {
    "resolution": "it is blurry because its resolution is low, and it should become sharper and higher in resolution",
    "blur": "it is blurred, and it should become sharp",
    "lowlight": "it is dark and noisy, and it should become brighter, with natural colors and less noise",
}
# One example for each task, in the form that the rules ask for: what is seen, and the prompt that names nothing else.
_EXAMPLES: dict[Task, tuple[str, str]] = {
    "resolution": (
        "A stone bridge with worn masonry over the water of a quiet river.",
        "A stone bridge over a quiet river gradually becomes sharper and higher in resolution, with fine "
        "details in the masonry and the water.",
    ),
    "blur": (
        "A portrait of a woman with dark hair in front of a bookshelf full of books with letters on them.",
        "A portrait of a woman in front of a bookshelf gradually becomes sharp as the blur disappears, with crisp "
        "hair and clear letters on the books.",
    ),
    "lowlight": (
        "A narrow street between the walls of brick houses at night, with a strip of sky above.",
        "A narrow street between brick houses at night gradually becomes brighter, with natural colors and "
        "less noise in the sky and on the walls.",
    ),
}
# What a model may put before its lines though it was not asked to.
_NUMBERED = re.compile(
    r"^(?:(?:line|sentence|caption|prompt|scene)\s*\d*\s*[:.]|\d+\s*[.):]|[-*•])\s*", re.IGNORECASE
)


def instruction(task: Task) -> str:
    """What a captioner that takes instructions is told besides the picture.

    It answers in two lines: what it sees, and the prompt, so that the one can be held against the other.

    Source: after Frame2Frame's instruction (arXiv 2411.16819, app. I): one sentence, simple, only the essential
    change, a static camera, with an example.
    """
    seen, prompt = _EXAMPLES[task]
    return (
        f"This photo is to be restored: {_GOAL_IN_WORDS[task]}. Answer in two lines and nothing else. First line: one "
        "plain English sentence that names everything that can be seen. Second line: one English sentence in the "
        "present tense, of 18 to 38 words, that names the subject and its setting in the words of the first line "
        "and says how the scene gradually becomes better in exactly this way. Bring in no new objects, no motion, no "
        "camera, and "
        f"don't use the words photo, image or video. Example:\n{seen}\n{prompt}"
    )


def _parted(answer: str) -> tuple[str, str]:
    """(what was seen, the prompt) of an instructed captioner's answer; the first is empty if it has one line only."""
    lines = [_NUMBERED.sub("", " ".join(line.split())).strip('"“” ') for line in answer.splitlines()]
    *seen, prompt = [line for line in lines if line] or [""]
    return " ".join(seen), prompt


def _with_goal(caption: str, task: Task) -> str:
    subject = caption.rstrip(" .!,;:")
    subject = subject[:1].upper() + subject[1:]
    return f"{subject}: the scene {_BECOMING[task]}. {TAIL}"


def _with_tail(text: str) -> str:
    """The text with the tail exactly once, whether or not its writer thought of it."""
    body = text.removesuffix(TAIL).strip()
    if body and body[-1] not in ".!?":
        body += "."
    return f"{body} {TAIL}" if body else TAIL
