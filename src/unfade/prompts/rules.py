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
# Verbs in the forms that tell of something going on. Left out are those that are as often a thing that stands still:
# sails, slides, a mountain pass, scattered leaves.
_MOTION = (
    r"walk(?:s|ed|ing)?|run|runs|running|jog(?:s|ging)|jump\w*|hop(?:s|ping)|leap\w*|danc\w*|fly|flies|flying|soar\w*|"
    r"drives?|driving|rid(?:es|ing)|cycling|skat(?:es|ing)|ski(?:s|ing)|surfs|surfing|sailing|rowing|swims?|swimming|"
    r"div(?:es|ing)|gallop\w*|trot\w*|crawl\w*|climb(?:s|ing)|march(?:es|ing)|stroll\w*|wander\w*|hurr(?:y|ies|ying)|"
    r"rush(?:es|ing)|chas(?:es|ing)|rac(?:es|ing)|throw(?:s|ing)|kick(?:s|ing)|catch(?:es|ing)|hits|hitting|push(?:es|ing)|"
    r"pull(?:s|ing)|pour(?:s|ing)|splash\w*|drip(?:s|ping)|flow(?:s|ed|ing)|stream(?:s|ing)|crash(?:es|ing)|"
    r"flutter\w*|flap(?:s|ping)|swirl(?:s|ing)|swing(?:s|ing)|bounc\w*|spin(?:s|ning)|sway\w*|drift(?:s|ed|ing)|"
    r"float(?:s|ing)|hover\w*|glid(?:es|ing)|slid(?:es|ing)|shak(?:es|ing)|trembl\w*|nod(?:s|ding)|blink\w*|wink\w*|"
    r"gestur\w*|smiles|laughs|speaks|talks|opens|closes|ris(?:es|ing)|sinks|sinking|falls|falling|rolls?|rolling|"
    r"blow(?:s|ing)|waving|waves? (?:his|her|its|their|at)|turns? (?:around|away|back|his|her|its|their)|"
    r"moves?|moved|moving|motion(?!\W+blur)|movements?|pass(?:es|ing)(?: by)?|cross(?:es|ing) the|approach\w*|"
    r"leaves the|flicker\w*|flash(?:es|ing)|pans?|panning|zoom\w*|tilt\w*|rotat\w*|orbit\w*|camera|dolly"
)
_APPEARING = (
    r"appear(?:s|ing|ed)?|emerg\w+|enter(?:s|ing)?|arriv\w+|add(?:s|ed|ing)|new|another|comes? (?:into view|out|in)|"
    r"joins?|joined|joining|(?:turns?|turning|chang\w+|transform\w*|morph\w*|develops?) into|materiali\w+|"
    r"is revealed to be|(?:shows?|pops?|turns) up|fad(?:es|ing) in|replac\w+|introduc\w+|spawn\w*|vanish\w*|"
    r"becom(?:es|ing) an?(?! (?:little|bit|lot))"
)
# What restoring itself does, in words that would tell of motion or of something new if it were things that did it.
_HARMLESS = re.compile(
    r"\b(?:nothing|no ?one|nobody) (?:moves|is moving)\b|\b(?:without|no) (?:any )?(?:motion|movement)\b|"
    r"\b(?:details?|textures?|edges|colou?rs|contours|outlines|lines|letters)"
    r"(?: (?:slowly|gradually|clearly))? (?:emerg\w+|appear\w*)"
)
_MEDIUM = (
    r"videos?|clips?|footage|(?:photo(?:graph)?|image|picture) (?:shows?|depicts?|features?)|we see|frames?"
)
# Words that a refined prompt may hold though its caption doesn't: grammar, the goal, and the way there.
_OWN = frozenset(
    "a across all along among an and any are around as at away back barely be becomes becoming been before behind "
    "being below beneath beside between blur blurred blurry both bluish bright brighter brightens brightness by "
    "calm cast clarity clean clear clearer clearly color colored colors colour coloured colours contrast cool "
    "crisp crisper dark darkened darkness deep degraded detail detailed details diagonal dim dimly disappears "
    "distinct each edge edges even evenly every everything exactly exposed exposure fade fades faint fine finer "
    "first focus focused from front full fully gains gets gradual gradually grain grainy greenish grows has heavy "
    "high higher horizontal illuminated image in inside into is it its keeps less level light lighter lighting "
    "lit little long low lower many mild more much muted natural naturally near neutral nobody noise noisy "
    "nothing now of on one original out outside over own pinkish pixelated place progressively quality reads "
    "remain remains resolution restored returns same scene seen shadow shadows shape shapes sharp sharpen "
    "sharpens sharper sharply sharpness slight slightly slow slowly smooth smoother so soft softness stable "
    "static stay stays steadily still step strong surface surfaces texture textures than that the their them then "
    "there they this through tinted to tone tones true turns under underexposed until vertical very view visible "
    "warm was well well-lit were what where which while whole with within without moves".split()
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
        caption: what was seen: every word of the prompt that may name a thing must come from it. An empty one allows
            only words of light, sharpness and the goal; None leaves that rule out.

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
    told = _HARMLESS.sub("", lower)
    for what, pattern in (("motion", _MOTION), ("something new", _APPEARING), ("the medium", _MEDIUM)):
        if found := re.search(rf"\b(?:{pattern})\b", told):
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
