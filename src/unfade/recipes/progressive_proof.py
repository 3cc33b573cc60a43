"""One folder of the CPU-sized proof of Progressive: what is trained in it, and from which photos."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox, save_cogvideox
from unfade.backbones.few_words import save_few_words_encoder
from unfade.backbones.video import embeddings_of
from unfade.core import InputError, UsageError
from unfade.prompts.progressive import UNIFORM
from unfade.recipes.progressive_cpu import ProgressiveCpu
from unfade.recipes.same_photos import check_same_photos
from unfade.recipes.small_coder import train_coder
from unfade.training.folded import folded_convolutions
from unfade.training.photos import Photos, load_photos
from unfade.training.progression import ProgressionSequences, Prompted
from unfade.training.progressive import ProgressiveTrainer
from unfade.training.progressive_run import ProgressiveRun
from unfade.training.stills import Stills

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Material:
    """Photos by what they are for; no photo serves two purposes, except that the VAE sees all that are not held out."""

    coder: Photos
    copied: Photos
    few: Photos
    held_out: Photos

    @staticmethod
    def of(recipe: ProgressiveCpu, photos: Sequence[Path]) -> "Material":
        """Photos of the folders; the same photos are always divided in the same way.

        Raises:
            InputError: they are too few.
        """
        found = load_photos(photos, smallest=recipe.size)
        if len(found) < recipe.held_out + recipe.copied + recipe.few:
            raise InputError(
                f"{len(found)} photos are too few for this recipe, which takes "
                f"{recipe.held_out + recipe.copied + recipe.few}; add more with --photos"
            )
        learning, held_out = found.split(recipe.held_out)
        rest, copied = learning.split(recipe.copied)
        few = rest if recipe.few == len(rest) else rest.split(recipe.few)[1]
        return Material(learning, copied, few, held_out)


class ProgressiveProof:
    """One folder of the proof.

    Attributes:
        recipe: what to do.
        material: photos.
        folder: of everything that comes out.
    """

    def __init__(
        self, recipe: ProgressiveCpu, photos: Sequence[Path], folder: Path, report: Report | None = None
    ) -> None:
        self.recipe = recipe
        self.material = Material.of(recipe, photos)
        check_same_photos(folder, self.material.coder, self.material.held_out)
        self.folder = folder
        self.report = report

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
    def adapter(self) -> Path:
        """The adapter's file, as `unfade restore --adapter` takes it."""
        return self.folder / "adapter" / "adapter.safetensors"

    def train_vae(self, workers: int) -> None:
        """The VAE, by one process for each core."""
        if not self.start.exists():
            recipe = self.recipe
            train_coder(
                workers, recipe.model, recipe.coder, self.material.coder, self.folder, self.start, self.report
            )

    def train_base(self) -> None:
        """The transformer, whole, from nothing: whatever it is told, it copies its input."""
        if self.model.exists():
            return
        self.needs(self.start, "vae")
        made = self.folder / ".model"
        shutil.rmtree(made, ignore_errors=True)
        video = load_cogvideox(open_cogvideox(self.start), torch.float32)
        save_few_words_encoder(
            self.folder / "words", UNIFORM.values(), self.recipe.model.transformer["text_embed_dim"]
        )
        self._train(self.recipe.base, video, Stills(self.films(self.material.copied)), self.folder / "base")
        save_cogvideox(video, made)
        for part in ("tokenizer", "text_encoder"):
            shutil.copytree(self.folder / "words" / part, made / part)
        made.rename(self.model)

    def train_adapter(self) -> None:
        """The LoRA, on the base, for all three tasks with their uniform prompts."""
        if self.adapter.exists():
            return
        self.needs(self.model, "base")
        video = load_cogvideox(open_cogvideox(self.model), torch.float32)
        watched = self.material.held_out.split(self.recipe.watched)[1]
        trainer = self._train(
            self.recipe.adapter,
            video,
            self.films(self.material.few),
            self.adapter.parent,
            self.films(watched),
        )
        trainer.export({"stage": "progressive-cpu", "prompts": "uniform"})

    def films(self, photos: Photos) -> ProgressionSequences:
        """Photos getting better, in every task and strength."""
        return ProgressionSequences(photos, kinds=self.recipe.kinds)

    def texts(self, prompts: Sequence[str]) -> list[Tensor]:
        """Embeddings `[1, L, D]` of prompts."""
        at = self.model if self.model.exists() else self.folder / "words"
        folder = open_cogvideox(self.start)
        return embeddings_of(type(folder)(at, folder.config, folder.files), self.folder / "prompts")(
            list(prompts), torch.device("cpu")
        )

    def _train(
        self,
        run: ProgressiveRun,
        video: CogVideoX,
        sequences: Prompted,
        folder: Path,
        held_out: Prompted | None = None,
    ) -> ProgressiveTrainer:
        kept = {prompt: self.texts([prompt])[0].float() for prompt in ("", *UNIFORM.values())}
        trainer = ProgressiveTrainer(
            run,
            video,
            sequences,
            lambda prompts: [kept[prompt] for prompt in prompts],
            folder,
            held_out,
            cache=self.folder / "latents",
        )
        trainer.resume()
        # Faster than the fused one for so few tokens.
        with folded_convolutions(video.vae.model), sdpa_kernel(SDPBackend.MATH):
            trainer.run(report=self.report)
        video.denoiser.model.eval()
        return trainer
