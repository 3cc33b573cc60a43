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
_OPENINGS = ("", "please ", "the photo is damaged: ", "i want you to ", "restore this: ")
_EVERYTHING = ("restore this photo", "fix everything", "make it look good again", "restore it")


def goal_sentence(names: tuple[str, ...], dice: random.Random) -> str:
    """A sentence asking for everything named to go, worded at random.

    Names without a phrase are passed over; with none left the sentence asks for everything.
    """
    wanted = [dice.choice(PHRASES[name]) for name in names if name in PHRASES]
    if not wanted:
        return dice.choice(_EVERYTHING)
    dice.shuffle(wanted)
    joined = wanted[0] if len(wanted) == 1 else ", ".join(wanted[:-1]) + " and " + wanted[-1]
    return dice.choice(_OPENINGS) + joined
