"""One folder of the CPU-sized proof of Vivid-VR: footage, base, concepts and controls, each made once."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from unfade.backbones.cogvideox_denoiser import CogVideoXCondition
from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox, save_cogvideox
from unfade.backbones.few_words import save_few_words_encoder
from unfade.backbones.video import embeddings_of
from unfade.core import InputError, UsageError, generator, subseed
from unfade.degrade.second_order import SecondOrder
from unfade.diffusion.guidance import Contrast
from unfade.prompts.footage import FootageRules
from unfade.prompts.vividvr import NEGATIVE_PROMPT, SUFFIX
from unfade.recipes.same_photos import check_same_photos
from unfade.recipes.small_coder import train_coder
from unfade.recipes.vivid_cpu import DEGRADATION, RECIPES
from unfade.recipes.vivid_footage import curated, make_footage
from unfade.recipes.workers import in_workers
from unfade.training.clip_captions import read_captions
from unfade.training.concept_store import CAPTIONS, MANIFEST, ConceptStore
from unfade.training.concepts import chosen_clips, make_concepts, reimagined_clip
from unfade.training.folded import folded_convolutions
from unfade.training.footage_clips import FootageClips, FootagePairs
from unfade.training.mixed_clips import MixedClips
from unfade.training.photos import Photos, load_photos
from unfade.training.text_to_video import TextToVideoTrainer
from unfade.training.vivid import VividTrainer

Report = Callable[[dict[str, Any]], None]
PARTS = ("learn", "choose", "held")


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A clip to judge on.

    Attributes:
        name: of the clip.
        caption: what is said of the clean one, as in training.
        low, clean: degraded and true, `[T, 3, S, S]` in [0, 1].
    """

    name: str
    caption: str
    low: Tensor
    clean: Tensor


class VividProof:
    """One folder of the proof.

    Attributes:
        name: of the recipe.
        recipe: what to do.
        photos: folders of photos.
        clips: folder of real footage, of which the last by name is held out.
        folder: of everything that comes out.
    """

    def __init__(
        self, name: str, photos: Sequence[Path], clips: Path, folder: Path, report: Report | None = None
    ) -> None:
        self.name = name
        self.recipe = RECIPES[name]()
        self.photos = photos
        self.clips = clips
        self.folder = folder
        self.report = report

    @cached_property
    def material(self) -> tuple[Photos, Photos]:
        """Photos to learn from, and those held out, the same ones every time.

        Raises:
            InputError: they are too few.
            UsageError: the folder was begun with others.
        """
        found = load_photos(self.photos, smallest=self.recipe.size)
        if len(found) < 2 * self.recipe.held_out:
            raise InputError(
                f"{len(found)} photos are too few for this recipe, which keeps {self.recipe.held_out} of them apart; "
                "add more with --photos"
            )
        learning, held_out = found.split(self.recipe.held_out)
        check_same_photos(self.folder, learning, held_out)
        return learning, held_out

    def needs(self, path: Path, stage: str) -> None:
        """Whether what an earlier stage makes is there.

        Raises:
            UsageError: it isn't.
        """
        if not path.exists():
            raise UsageError(f"{path} is not there yet; run --stage {stage} before this one, or --stage all")

    @property
    def start(self) -> Path:
        """The folder of the trained VAE with an untrained transformer."""
        return self.folder / "start"

    @property
    def model(self) -> Path:
        """The folder of the base, as `unfade restore -n` takes it."""
        return self.folder / "model"

    @property
    def concepts(self) -> Path:
        """The folder of clips made anew."""
        return self.folder / "concepts"

    @property
    def judged(self) -> Path:
        """The folder of figures, clip by clip."""
        return self.folder / "judged"

    def control(self, variant: str) -> Path:
        """A variant's folder, as `unfade restore --control` takes it."""
        return self.folder / "controls" / variant.replace(" ", "-") / "control"

    def train_vae(self, workers: int) -> None:
        """The VAE, by one process for each core."""
        if not self.start.exists():
            recipe = self.recipe
            learning, _ = self.material
            train_coder(workers, recipe.model, recipe.coder, learning, self.folder, self.start, self.report)

    def make_footage(self) -> None:
        """Footage of photos and real footage, curated and captioned, and an encoder of the words in the captions."""
        if (self.folder / "words").exists():
            return
        learning, held_out = self.material
        make_footage(self.folder / "footage", learning, held_out, self.clips, self.recipe)
        said = [caption for part in PARTS for caption in self.footage(part).captions.values()]
        made = self.folder / ".words"
        shutil.rmtree(made, ignore_errors=True)
        width = self.recipe.model.transformer["text_embed_dim"]
        save_few_words_encoder(made, [*said, SUFFIX, NEGATIVE_PROMPT], width)
        made.rename(self.folder / "words")

    def footage(self, part: str) -> FootageClips:
        """Clips of footage with their captions: "learn", "held", or "choose", which are of videos like those of "learn"
        that nothing learns from."""
        folder, frames = self.folder / "footage", self.recipe.control.frames
        if part == "held":
            return curated(folder, part, frames)
        clips = curated(folder, "learn", frames)
        paths = {video.path for video, _ in clips.parts}
        apart = sorted(paths, key=lambda path: (subseed(0, "choose", path.name), path))[
            : self.recipe.choosing
        ]
        return replace(
            clips, parts=tuple(one for one in clips.parts if (one[0].path in apart) == (part == "choose"))
        )

    def train_base(self) -> None:
        """The transformer, whole, from nothing: captions in, footage out."""
        if self.model.exists():
            return
        self.needs(self.start, "vae")
        self.needs(self.folder / "words", "footage")
        made = self.folder / ".model"
        shutil.rmtree(made, ignore_errors=True)
        video = load_cogvideox(open_cogvideox(self.start, sees_photo=False), torch.float32)
        clips = self.footage("learn")
        trainer = TextToVideoTrainer(
            self.recipe.base,
            video,
            clips,
            self._embed(clips),
            self.folder / "base",
            cache=self.folder / "latents",
        )
        trainer.resume()
        with folded_convolutions(video.vae.model), sdpa_kernel(SDPBackend.MATH):
            trainer.run(report=self.report)
        save_cogvideox(video, made)
        for part in ("tokenizer", "text_encoder"):
            shutil.copytree(self.folder / "words" / part, made / part)
        made.rename(self.model)

    def distil(self) -> None:
        """Clips made anew by the base as their captions say."""
        self.needs(self.model, "base")
        recipe, clips, run = self.recipe, self.footage("learn"), self.recipe.concepts
        video = load_cogvideox(open_cogvideox(self.model, sees_photo=False), torch.float32)
        embed, rules = self._embed(clips), FootageRules()
        empty = torch.zeros(1, recipe.model.latent_channels, 1, 1, 1)
        store = ConceptStore(self.concepts, {"captioner": rules.identity, **run.told()})

        def make(frames: Tensor, caption: str, name: str) -> Tensor:
            positive, negative = (CogVideoXCondition(empty, text) for text in embed([caption, ""]))
            return reimagined_clip(
                video, frames, Contrast(positive, negative), run, name, torch.device("cpu")
            )

        with folded_convolutions(video.vae.model), sdpa_kernel(SDPBackend.MATH):
            failed = make_concepts(clips, chosen_clips(clips, run), make, store, run, self._heard)
        if failed:
            raise InputError(
                f"{failed} clips of {self.folder / 'footage'} can't be read; make the footage again"
            )

    def _heard(self, row: Any) -> None:
        if self.report:
            self.report(asdict(row))

    def train_controls(self, workers: int) -> None:
        """Control in every variant, as many at a time as there are workers, one thread each.

        Raises:
            UnfadeError: a run failed.
            KeyboardInterrupt: as asked for; what is done is saved.
        """
        self.needs(self.model, "base")
        if not (self.concepts / MANIFEST).exists() or len(self.made_anew()) < (
            self.recipe.concepts.count or 1
        ):
            raise UsageError(
                f"{self.concepts} is not whole yet; run --stage concepts before this one, or --stage all"
            )
        left = [name for name in self.recipe.variants if not self.control(name).exists()]
        if workers == 1 or len(left) < 2:
            for name in left:
                self.train_control(name)
            return
        place = self.name, self.photos, self.clips, self.folder, self.report
        in_workers(_train_control, [(*place, name) for name in left], workers)

    def train_control(self, variant: str) -> None:
        """One variant, from control that changes nothing yet."""
        recipe, clips = self.recipe, self.footage("learn")
        video = load_cogvideox(open_cogvideox(self.model, sees_photo=False), torch.float32)
        source: FootageClips | MixedClips = clips
        if variant != "without distillation":
            source = MixedClips(clips, self.made_anew(), recipe.ratio)
        run = replace(recipe.control, control=recipe.variants[variant])
        trainer = VividTrainer(
            run,
            video,
            FootagePairs(source, degraded, repr(DEGRADATION)),
            self._embed(source),
            self.control(variant).parent,
            cache=self.folder / "latents",
        )
        trainer.resume()
        with folded_convolutions(video.vae.model), sdpa_kernel(SDPBackend.MATH):
            trainer.run(report=self._of(variant))
        trainer.export({"stage": "vivid-cpu", "variant": variant})

    def made_anew(self) -> FootageClips:
        """The distilled clips with their captions."""
        told = read_captions(self.concepts / CAPTIONS)
        frames = self.recipe.concepts.frames
        return FootageClips.of(self.concepts / MANIFEST, frames, told, sources=self.footage("learn"))

    def _of(self, variant: str) -> Report | None:
        if self.report is None:
            return None
        heard = self.report
        return lambda row: heard({"variant": variant, **row})

    def _embed(self, clips: FootageClips | MixedClips) -> Callable[[Sequence[str]], list[Tensor]]:
        """Captions' embeddings `[1, L, D]`, and the empty one's."""
        start = open_cogvideox(self.start, sees_photo=False)
        folder = type(start)(self.folder / "words", start.config, start.files)
        said = sorted({"", *(clips.prompt(index) for index in range(len(clips)))})
        texts = embeddings_of(folder, self.folder / "prompts")(said, torch.device("cpu"))
        kept = {caption: text.float() for caption, text in zip(said, texts, strict=True)}
        return lambda captions: [kept[caption] for caption in captions]

    def judged_pairs(self, part: str) -> list[JudgedPair]:
        """Clips of "held" or "choose", always the same ones, wherever the folder lies."""
        clips = self.footage(part)
        pairs = FootagePairs(clips, degraded, repr(DEGRADATION))
        made: list[JudgedPair] = []
        for index, name in enumerate(pairs.names):
            dice = generator(1, "judged", name)
            low, clean = pairs.draw(index, self.recipe.size, self.recipe.control.frames, dice).chunk(2)
            made.append(JudgedPair(name, clips.prompt(index), low, clean))
        return made


def degraded(dice: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The proof's degradation, thrown once for a clip."""
    return SecondOrder.draw(dice, 1.0, DEGRADATION)


def _train_control(
    name: str, photos: Sequence[Path], clips: Path, folder: Path, report: Report | None, variant: str
) -> None:
    VividProof(name, photos, clips, folder, report).train_control(variant)
