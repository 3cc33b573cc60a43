"""The rules of a scene-adaptive prompt, and which of them a text breaks."""

import re

from unfade.prompts.progressive import TAIL, Task

FEWEST, MOST = 20, 45

# Words of which one must be there, so that the goal isn't lost among the scenery.
GOALS: dict[Task, tuple[str, ...]] = {
    "resolution": ("sharp", "detail", "resolution", "crisp", "fine"),
    "blur": ("sharp", "focus", "blur", "deblur", "crisp"),
    "lowlight": ("bright", "light", "illuminat", "lit"),
}
_CHANGE = ("gradual", "becom", "slowly", "progressiv", "step by step", "steadily", "gets", "grows", "turns")
_MOTION = (
    r"walk\w*|run|runs|running|fly|flies|flying|drives?|driving|jump\w*|danc\w*|turns? (?:around|away|his|her|its)|"
    r"moves?|moving|pans?|panning|zoom\w*|tilt\w*|rotat\w*|approach\w*|swims?|waves? (?:his|her|at)|camera|sways?|"
    r"drift\w*|rolls?|rolling|falls|falling"
)
_APPEARING = (
    r"appear(?:s|ing)?|emerg\w+|enters?|entering|arriv\w+|added|adding|new|comes? into view|is joined|join|"
    r"transforms? into|materiali\w+|is revealed to be"
)
_MEDIUM = (
    r"videos?|clips?|footage|(?:photo(?:graph)?|image|picture) (?:shows?|depicts?|features?)|we see|frames?"
)
# Words that a refined prompt may hold though its caption doesn't: grammar, the goal, and the way there.
_OWN = frozenset(
    "a an and are as at away back becomes becoming blur blurred blurry bright brighter brightens brightness by "
    "cast clarity clean clear clearer color colors contrast crisp crisper dark darkness deep detail details "
    "dim disappears edge edges even every everything exactly fades fine finer first focus from full fully gains gets "
    "gradually grain grows high higher illuminated image in into is it its keeps less light lit little long low "
    "lower more natural naturally noise noisy nothing of on out over pixelated place progressively remains "
    "resolution restored returns scene shadows sharp sharpens sharper sharply sharpness shape slowly smooth soft "
    "static stays steadily still step same smoother softness surface surfaces texture textures that the their "
    "them there they this through tone tones turns until visible well where which while with within without "
    "moves".split()
)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+")


def count_words(text: str) -> int:
    """How many words a text has; "soft-edged" is one."""
    return len(_WORD.findall(text))


def broken_rules(text: str, task: Task, caption: str | None = None) -> tuple[str, ...]:
    """What is wrong with a scene-adaptive prompt, one clause for each broken rule; empty if nothing is.

    The rules: 20 to 45 English words that end in "Nothing moves. Static image.", name the task's goal as a
    gradual change, tell of no motion, no camera and no medium, and bring no new object.

    Args:
        text: the whole prompt, tail included.
        task: whose goal must be kept.
        caption: what was seen; where given, every noun-like word of the prompt must come from it.

    Source: rules of this project, after Frame2Frame's instruction (arXiv 2411.16819, app. I).
    """
    broken: list[str] = []
    count = count_words(text)
    if count < FEWEST:
        broken.append(f"it has {count} words, fewer than {FEWEST}")
    if count > MOST:
        broken.append(f"it has {count} words, more than {MOST}")
    if not text.endswith(TAIL):
        broken.append(f"it doesn't end in “{TAIL}”")
    body = text.removesuffix(TAIL)
    if any(ord(letter) > 0x24F and letter.isalpha() for letter in body):
        broken.append("it isn't in English")
    lower = body.lower()
    if not re.search(r"\b(?:" + "|".join(GOALS[task]) + ")", lower):
        broken.append(f"it doesn't name the goal ({', '.join(GOALS[task])})")
    if not any(word in lower for word in _CHANGE):
        broken.append("it tells of no gradual change")
    for what, pattern in (("motion", _MOTION), ("something new", _APPEARING), ("the medium", _MEDIUM)):
        if found := re.search(rf"\b(?:{pattern})\b", lower):
            broken.append(f"it tells of {what} (“{found[0]}”)")
    if caption is not None and (new := _not_seen(lower, caption)):
        broken.append(f"it brings what the caption doesn't have (“{'”, “'.join(new)}”)")
    return tuple(broken)


def _not_seen(body: str, caption: str) -> list[str]:
    seen = {_stem(word) for word in _WORD.findall(caption.lower())}
    words = dict.fromkeys(_WORD.findall(body))
    return [word for word in words if word not in _OWN and _stem(word) not in seen]


def _stem(word: str) -> str:
    """Singular and plural, "walks" and "walk" alike."""
    return word.removesuffix("'s").removesuffix("es").removesuffix("s")
