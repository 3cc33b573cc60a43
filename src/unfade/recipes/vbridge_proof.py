"""One folder of the CPU-sized proof of V-Bridge: what is trained in it, from which photos, and how it is judged."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_folder import load_wan, open_wan, save_wan
from unfade.backbones.wordless import save_wordless_encoder
from unfade.core import Clip, subseed
from unfade.degrade import named
from unfade.media.images import write_image
from unfade.recipes.same_photos import check_same_photos
from unfade.recipes.small_coder import train_coder
from unfade.recipes.vbridge_ablations import Ablation
from unfade.recipes.vbridge_cpu import VBridgeCpu
from unfade.recipes.vbridge_judging import write_json
from unfade.training.folded import folded_convolutions
from unfade.training.pairs import find_pairs
from unfade.training.photos import Photos, load_photos
from unfade.training.sequences import PairSequences, PhotoSequences, Sequences
from unfade.training.vbridge import VBridgeTrainer
from unfade.training.vbridge_run import VBridgeRun
from unfade.training.walks import Walk, held_sequences, judged, summary, walked

DRIFT = "drift-correction"
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Material:
    """Photos by what they are for; no photo serves two purposes, except that ablations use some of the base's."""

    coder: Photos
    base: Photos
    ablations: Photos
    drift: Photos
    held_out: Photos

    @staticmethod
    def of(recipe: VBridgeCpu, photos: Sequence[Path]) -> "Material":
        """Photos of the folders, always divided in the same way."""
        learning, held_out = load_photos(photos, smallest=recipe.size).split(recipe.held_out)
        rest, drift = learning.split(recipe.drifting)
        base = _some(rest, recipe.few)
        return Material(learning, base, _some(base, recipe.ablation_photos), drift, held_out)


def _some(photos: Photos, count: int) -> Photos:
    return photos if count >= len(photos) else photos.split(count)[1]


class VBridgeProof:
    """One folder of the proof.

    Attributes:
        recipe: what to do.
        material: photos.
        folder: of everything that comes out.
    """

    def __init__(
        self, recipe: VBridgeCpu, photos: Sequence[Path], folder: Path, report: Report | None = None
    ) -> None:
        self.recipe = recipe
        self.photos = photos
        self.material = Material.of(recipe, photos)
        check_same_photos(folder, self.material.coder, self.material.held_out)
        self.folder = folder
        self.report = report
        self.text = torch.zeros(1, 1, recipe.model.transformer["text_dim"])

    @property
    def start(self) -> Path:
        """The folder of the trained VAE with an untrained transformer."""
        return self.folder / "start"

    @property
    def model(self) -> Path:
        """The folder of the trained model, as `unfade restore -n` takes it."""
        return self.folder / "model"

    @property
    def adapter(self) -> Path:
        """The drift correction's file."""
        return self.folder / "drift" / "adapter.safetensors"

    def sequences(self, photos: Photos, trajectory: Any = "linear") -> PhotoSequences:
        """Each photo once with each degradation."""
        kinds = {category: named(name) for category, name in self.recipe.kinds.items()}
        return PhotoSequences(photos, kinds, trajectory, self.recipe.strength)

    def train_vae(self, workers: int) -> None:
        """The VAE, by one process for each core."""
        if not self.start.exists():
            train_coder(
                workers,
                self.recipe.model,
                self.recipe.coder,
                self.material.coder,
                self.folder,
                self.start,
                self.report,
            )

    def train_base(self) -> None:
        """The transformer, whole, from nothing."""
        if self.model.exists():
            return
        wan = load_wan(open_wan(self.start), torch.float32)
        self._train(self.recipe.base, wan, self.sequences(self.material.base), self.folder / "base")
        made = self.folder / ".model"
        shutil.rmtree(made, ignore_errors=True)
        save_wan(wan, made)
        save_wordless_encoder(made, self.text.shape[-1])
        made.rename(self.model)

    def train_drift(self) -> None:
        """The drift correction: an adapter that learns from what the base makes of photos it has never seen."""
        if self.adapter.exists():
            return
        wan = load_wan(open_wan(self.model), torch.float32)
        pairs = self._rolled_out(wan)
        trainer = self._train(
            self.recipe.drift,
            wan,
            PairSequences(find_pairs([pairs], "foundir")),
            self.folder / "drift",
            DRIFT,
        )
        trainer.export({"stage": "vbridge-cpu"})

    def train_ablations(self) -> None:
        """Every row of every table; rows that are the same training are trained once."""
        for rows in self.recipe.tables.values():
            for row in rows:
                self.judge_row(row)

    def judge_row(self, row: Ablation) -> dict[str, Any]:
        """Trains a row, if that has not been done, and judges it: a summary for each size."""
        folder = self.folder / "ablations" / slug(row)
        found = folder / "judged.json"
        if found.exists():
            return json.loads(found.read_text())
        wan = self._fresh(self.recipe.ablated, "ablations")
        self._train(row.run, wan, self.sequences(self.material.ablations, row.trajectory), folder)
        figures = {str(size): self.judge(wan, size, row.run.frames)[0] for size in self.recipe.table_sizes}
        write_json(found, figures)
        (folder / "checkpoint.pt").unlink()
        return figures

    def judge(
        self, wan: Wan, size: int, frames: int, steps: int | None = None
    ) -> tuple[dict[str, Any], Tensor, Tensor]:
        """(summary, true sequences, generated frames) for the held-out photos."""
        walk = Walk(frames=frames, steps=steps or self.recipe.steps)
        names, clips = held_sequences(self.sequences(self.material.held_out), size, frames, seed=1)
        made = walked(wan, clips[:, 0], names, self.text, walk)
        return summary(judged(wan, names, clips, made)), clips, made

    def _fresh(self, config: WanConfig, purpose: str) -> Wan:
        """An untrained transformer with the trained VAE."""
        vae = load_wan(open_wan(self.start), torch.float32).vae.model
        torch.manual_seed(subseed(0, purpose) % 2**32)
        return Wan.of(build_wan(config).denoiser.model, vae, config.scheduler)

    def _train(
        self, run: VBridgeRun, wan: Wan, sequences: Sequences, folder: Path, role: Any = "restore"
    ) -> VBridgeTrainer:
        trainer = VBridgeTrainer(
            run, wan, sequences, self.text, folder, role=role, cache=self.folder / "latents"
        )
        trainer.resume()
        with folded_convolutions(wan.vae.model):
            trainer.run(report=self.report)
        wan.denoiser.model.eval()
        return trainer

    def _rolled_out(self, wan: Wan) -> Path:
        """A folder of pairs: what the base makes of photos kept apart for this, and the truth, both as files."""
        folder = self.folder / "rollout"
        if folder.exists():
            return folder
        made = self.folder / ".rollout"
        shutil.rmtree(made, ignore_errors=True)
        run, size = self.recipe.base, self.recipe.size
        names, clips = held_sequences(self.sequences(self.material.drift), size, 2, seed=2)
        walk = Walk(frames=run.frames, steps=self.recipe.steps)
        results = walked(wan, clips[:, 0], names, self.text, walk)[:, -1]
        for name, result, truth in zip(names, results, clips[:, -1], strict=True):
            category, _, stem = name.rpartition("/")
            write_image(Clip(result[None]), made / category / "LQ" / f"{stem}.png")
            write_image(Clip(truth[None]), made / category / "GT" / f"{stem}.png")
        made.rename(folder)
        return folder


def slug(row: Ablation) -> str:
    """A row's training as the name of a folder: frames, epochs at each size, trajectory."""
    stages = "-".join(f"{epochs}x{size}" for epochs, size in row.run.stages)
    return f"{row.run.frames}-frames-{stages}-{row.trajectory}"
