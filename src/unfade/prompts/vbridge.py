"""V-Bridge's one prompt for everything, and what it goes away from."""

# Verbatim from the paper's appendix (arXiv 2603.13089), the same in its released code.
PROMPT = (
    "A restoration-focused video strictly based on the input image. "
    "The camera is completely static with no movement, no zoom, and no rotation. "
    "The original composition, objects, layout, and perspective are preserved exactly. "
    "Focus on visual restoration and enhancement: remove noise, reduce blur, eliminate rain artifacts, "
    "remove compression artifacts, and improve clarity, sharpness, and fine details while maintaining natural "
    "textures, accurate colors, and balanced lighting. "
    "Only extremely subtle and natural temporal consistency is allowed. "
    "The video should appear stable, clean, and realistic, as if the input image has been gently restored over time."
)
NEGATIVE_PROMPT = (
    "camera movement, panning, tilting, zooming, rotation, scene change, object movement, new objects, "
    "object deformation, style change, artistic style, illustration, painting, cartoon, over-saturated colors, "
    "overexposure, underexposure, motion blur, jitter, flickering, shaking, low quality, worst quality, noise, "
    "blur, rain, fog, compression artifacts, jpeg artifacts, aliasing, text, subtitles, watermark, logo, "
    "distorted anatomy, extra limbs, duplicated objects, exaggerated motion, creative animation"
)


def vbridge_prompt(wish: str | None = None) -> str:
    """The published prompt, followed by the user's wish if there is one.

    The model was fine-tuned on this one sentence, so a wish is added to it and never replaces it.
    """
    wish = " ".join(wish.split()) if wish else ""
    return f"{PROMPT} {wish}" if wish else PROMPT
