"""The footage of the CPU-sized proof of Vivid-VR: films of photos and real ones, curated and captioned."""

import shutil
from fractions import Fraction
from pathlib import Path

from unfade.core import InputError, generator
from unfade.media.atomic import atomic_output
from unfade.prompts.footage import FootageRules
from unfade.recipes.vivid_cpu import VividCpu
from unfade.training.clip_captions import caption_clips, read_captions
from unfade.training.concept_store import write_nearly_lossless
from unfade.training.curation import CurationRules, curate, find_footage
from unfade.training.footage_clips import FootageClips
from unfade.training.glides import glide
from unfade.training.photos import Photos

_FPS = Fraction(24)


def make_footage(folder: Path, learning: Photos, held_out: Photos, clips: Path, recipe: VividCpu) -> None:
    """Writes what is not there yet: films of photos, copies of real footage, manifests and captions.

    Args:
        folder: to write to: `learn/` and `held/` with films, and for each a manifest and captions.
        learning, held_out: photos.
        clips: folder of real footage; the last by name is held out.
        recipe: sizes and lengths.

    Raises:
        InputError: there are fewer than two pieces of real footage.
        OutputError: something can't be written.
    """
    real = find_footage([clips])
    if len(real) < 2:
        raise InputError(f"{clips} holds one piece of footage; at least two are needed, the last to judge on")
    parts = {"learn": (learning, real[:-1]), "held": (held_out, real[-1:])}
    for part, (photos, films) in parts.items():
        place = folder / part
        place.mkdir(parents=True, exist_ok=True)
        for index in range(len(photos)):
            path = place / f"photo-{index:04d}.mp4"
            if not path.exists():
                size = recipe.size, recipe.size
                made = glide(photos[index], size, recipe.length, generator(0, part, index))
                write_nearly_lossless(made, path, _FPS, {})
        for film in films:
            if not (place / film.name).exists():
                with atomic_output(place / film.name) as temporary:
                    shutil.copyfile(film, temporary)
        seconds = recipe.length / float(_FPS)
        rules = CurationRules(
            least_side=recipe.size, least_fps=20.0, least_seconds=0.9 * seconds, most_seconds=2 * seconds
        )
        curate([place], _manifest(folder, part), rules)
        caption_clips(_clips(folder, part, recipe.control.frames), FootageRules(), _captions(folder, part))


def curated(folder: Path, part: str, frames: int) -> FootageClips:
    """Clips of one part with their captions.

    Args:
        folder: what `make_footage` wrote to.
        part: "learn" or "held".
        frames: that a clip must have.

    Raises:
        InputError: they are not there.
    """
    clips = _clips(folder, part, frames)
    return FootageClips(clips.parts, read_captions(_captions(folder, part)))


def _clips(folder: Path, part: str, frames: int) -> FootageClips:
    return FootageClips.of(_manifest(folder, part), frames)


def _manifest(folder: Path, part: str) -> Path:
    return folder / f"{part}.jsonl"


def _captions(folder: Path, part: str) -> Path:
    return folder / f"{part}-captions.jsonl"
