"""What to call each degradation, and sentences that ask for it to go. Used to train `tiny` to read prompts."""

import random

# Phrases per degradation name (unfade.degrade); each completes "Please ..." and "The photo should ...".
PHRASES: dict[str, tuple[str, ...]] = {
    "gaussian-noise": ("remove the noise", "denoise it", "clean up the grain", "reduce the noise"),
    "sensor-noise": ("remove the sensor noise", "denoise it", "reduce the ISO noise", "clean up the grain"),
    "noise": ("remove the noise", "denoise it", "clean up the grain", "reduce the noise"),
    "gaussian-blur": ("make it sharp", "remove the blur", "deblur it", "sharpen the soft details"),
    "defocus": ("bring it into focus", "fix the focus", "deblur it", "make it sharp"),
    "motion-blur": ("remove the motion blur", "remove the camera shake", "deblur it", "make it sharp"),
    "local-blur": ("sharpen what moved", "remove the motion blur", "deblur it", "make it sharp"),
    "blur": ("remove the blur", "make it sharp", "deblur it", "bring it into focus"),
    "downsample": (
        "raise the resolution",
        "add detail",
        "upscale it",
        "make it sharper and higher in resolution",
    ),
    "jpeg": ("remove the JPEG artefacts", "remove the compression artifacts", "fix the blockiness"),
    "lowlight": ("brighten it", "light up the dark photo", "fix the underexposure", "make it brighter"),
    "haze": ("remove the haze", "dehaze it", "clear the fog", "restore the contrast"),
    "rain": ("remove the rain", "derain it", "take the rain streaks away"),
    "raindrop": ("remove the raindrops", "take the drops off the lens", "clean the wet lens"),
}
# What is to stay, per degradation name: said after a goal, or left unsaid.
KEPT: dict[str, tuple[str, ...]] = {
    "gaussian-noise": ("keep the grain", "leave the noise"),
    "sensor-noise": ("keep the grain", "leave the noise"),
    "noise": ("keep the grain", "leave the noise"),
    "gaussian-blur": ("keep it soft", "leave the blur"),
    "defocus": ("keep it soft", "leave the focus as it is"),
    "motion-blur": ("keep the motion blur", "leave the blur"),
    "local-blur": ("keep the motion blur", "leave the blur"),
    "blur": ("keep it soft", "leave the blur"),
    "downsample": ("keep it soft", "leave the resolution"),
    "jpeg": ("keep the artefacts", "leave the blocks"),
    "lowlight": ("keep it dark", "leave the light as it is"),
    "haze": ("keep the haze", "leave the mood"),
    "rain": ("keep the rain", "leave the weather"),
    "raindrop": ("keep the drops", "leave the drops on the lens"),
}
_OPENINGS = ("", "please ", "the photo is damaged: ", "i want you to ", "restore this: ")
_SCENES = (
    "a street at night: ",
    "my grandmother in the garden, ",
    "an old photo of a ship; ",
    "portrait of a girl with a dog. ",
    "mountains behind a lake, ",
    "a red car in the city: ",
    "two birds on a branch, ",
)
# What asks for no goal of its own; nothing is said to the model then.
EVERYTHING = ("restore this photo", "fix everything", "make it look good again", "restore it")


def goal_sentence(names: tuple[str, ...], dice: random.Random, kept: tuple[str, ...] = ()) -> str | None:
    """A sentence asking for everything named to go, worded at random.

    Args:
        names: of degradations. Those without a phrase are passed over; with none left there is nothing to say.
        dice: what chooses the words.
        kept: names of degradations that are to stay. Half of the time each is said to, now and then nothing else is.
    """
    wanted = [dice.choice(PHRASES[name]) for name in names if name in PHRASES]
    if not wanted:
        return None
    dice.shuffle(wanted)
    if kept and dice.random() < 0.12 and all(name in KEPT for name in kept):
        return dice.choice(_OPENINGS) + ", ".join(dice.choice(KEPT[name]) for name in kept)
    joined = wanted[0] if len(wanted) == 1 else ", ".join(wanted[:-1]) + " and " + wanted[-1]
    if kept and dice.random() < 0.3:
        joined = f"only {joined}"
    for name in kept:
        if name in KEPT and dice.random() < 0.5:
            joined += f", {dice.choice(KEPT[name])}"
    if dice.random() < 0.1:
        # Something that isn't there may be asked to stay as well.
        joined += f", {dice.choice(KEPT[dice.choice([name for name in KEPT if name not in names])])}"
    scene = dice.choice(_SCENES) if dice.random() < 0.2 else ""
    return scene + dice.choice(_OPENINGS) + joined
