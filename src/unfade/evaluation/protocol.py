"""One benchmark task on one restorer: degrade, restore, compare, all at the 8 bits that files have.

Knows no model: anything with the `Restorer` contract is measured by the same lines. Nor does it know where
pictures come from or what result would be good; that is for whoever runs it.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from unfade.core import Clip, Plan, Restorer, generator
from unfade.degrade import draw_composition
from unfade.degrade.classic import CLASSIC, Classic, quantise
from unfade.degrade.composition import Kinds
from unfade.degrade.degradation import Strength
from unfade.evaluation.fidelity import Convention, psnr, ssim


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is done to a clean photo, and how the restored one is compared with it.

    Attributes:
        name: of the task; seeds depend on it.
        degrade: `[1, 3, H, W]` and dice to the degraded photo of the same size.
        colour: convention of PSNR and SSIM.
        border: pixels left out of the comparison on every side.
        multiple: photos are first cropped, at bottom and right, to sides that are multiples of this.
    """

    name: str
    degrade: Classic
    colour: Convention = "rgb"
    border: int = 0
    multiple: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One photo.

    Attributes:
        image: its name.
        input_psnr, output_psnr, input_ssim, output_ssim: degraded and restored photo against the truth.
        film: PSNR in dB of each frame of the film, the first as degraded, the last the result.
        seconds: wall time of the restoration.
    """

    image: str
    input_psnr: float
    output_psnr: float
    input_ssim: float
    output_ssim: float
    film: tuple[float, ...]
    seconds: float

    @property
    def gain(self) -> float:
        """dB won by restoring; 0 where a perfect photo came back perfect."""
        return 0.0 if self.output_psnr == self.input_psnr else self.output_psnr - self.input_psnr

    @property
    def rises(self) -> bool:
        """Whether every frame of the film is strictly nearer to the truth than the one before."""
        return all(after > before for before, after in zip(self.film, self.film[1:], strict=False))

    @property
    def largest_drop(self) -> float:
        """The most dB lost from one frame to the next, 0 if none is."""
        steps = zip(self.film, self.film[1:], strict=False)
        return max(0.0, *(before - after if before != after else 0.0 for before, after in steps))

    @property
    def spearman(self) -> float:
        """Rank correlation between time and PSNR along the film: 1 for a film that always rises."""
        return spearman(range(len(self.film)), self.film)


@dataclass(frozen=True, slots=True)
class Report:
    """A task's rows and what they come to.

    Attributes:
        task: its name.
        restorer: what was measured.
        rows: one a photo.
    """

    task: str
    restorer: str
    rows: tuple[Row, ...] = field(default_factory=tuple)

    def mean(self, of: Callable[[Row], float]) -> float:
        """The mean of one figure over the photos; infinite if one of them is."""
        return sum(map(of, self.rows)) / len(self.rows)

    @property
    def rising(self) -> float:
        """Share of photos whose film rises strictly."""
        return self.mean(lambda row: float(row.rises))

    def summary(self) -> dict[str, float | int | str]:
        """The figures of a table's line."""
        return {
            "task": self.task,
            "restorer": self.restorer,
            "images": len(self.rows),
            "input_psnr": self.mean(lambda row: row.input_psnr),
            "output_psnr": self.mean(lambda row: row.output_psnr),
            "gain": self.mean(lambda row: row.gain),
            "worst_gain": min(row.gain for row in self.rows),
            "input_ssim": self.mean(lambda row: row.input_ssim),
            "output_ssim": self.mean(lambda row: row.output_ssim),
            "rising": self.rising,
            "largest_drop": max(row.largest_drop for row in self.rows),
            "spearman": self.mean(lambda row: row.spearman),
            "seconds": sum(row.seconds for row in self.rows),
        }

    def as_dict(self) -> dict[str, Any]:
        """The summary with its rows."""
        rows = [
            {
                **asdict(row),
                "film": list(row.film),
                "rises": row.rises,
                "largest_drop": row.largest_drop,
                "spearman": row.spearman,
            }
            for row in self.rows
        ]
        return {**self.summary(), "rows": rows}


def classic(name: str) -> Task:
    """A fixed degradation of `CLASSIC` with its usual convention: enlargements on luma, the rest on RGB.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in CLASSIC:
        raise ValueError(f"unknown task {name!r}; known: {', '.join(CLASSIC)}")
    if name[0] == "x" and name[1:].isdigit():
        scale = int(name[1:])
        return Task(name=name, degrade=CLASSIC[name], colour="y", border=scale, multiple=scale)
    return Task(name=name, degrade=CLASSIC[name])


def composed(name: str, kinds: Kinds, strength: Strength = "any") -> Task:
    """A drawn composition at severity 1, rounded to 8 bits, compared on RGB."""

    def degrade(x: Tensor, dice: torch.Generator) -> Tensor:
        shape = (x.shape[0], x.shape[2], x.shape[3])
        return quantise(draw_composition(kinds, dice, shape, strength)(x))

    return Task(name=name, degrade=degrade)


def run_task(
    task: Task,
    photos: Iterable[tuple[str, Tensor]],
    restorer: Restorer,
    *,
    restorer_name: str,
    plan: Plan | None = None,
    prompt: str | None = None,
    seed: int = 0,
    film: int = 9,
) -> Report:
    """A restorer's report on one task.

    Args:
        task: what to do.
        photos: (name, clean photo `[3, H, W]` in [0, 1]); rounded to 8 bits before anything else.
        restorer: anything that keeps the contract.
        restorer_name: what to call it.
        plan, prompt: handed to the restorer.
        seed: with the task's and the photo's name it determines the degradation, whatever the restorer.
        film: number of frames judged along the way.

    Raises:
        ValueError: there are no photos, or one is smaller than the task's multiple.
    """
    rows: list[Row] = []
    for name, photo in photos:
        truth = _cropped(quantise(photo.to(torch.float32)), task.multiple, name)
        degraded = quantise(task.degrade(truth[None], generator(seed, task.name, name)))[0]
        started = perf_counter()
        restoration = restorer.restore(Clip.of(degraded), prompt, plan or Plan())
        seconds = perf_counter() - started
        result = quantise(restoration.result.frames.detach().cpu())[0]
        frames = (quantise(clip.frames.detach().cpu())[0] for clip in restoration.trajectory.film(film))
        rows.append(
            Row(
                image=name,
                input_psnr=psnr(degraded, truth, task.colour, task.border),
                output_psnr=psnr(result, truth, task.colour, task.border),
                input_ssim=ssim(degraded, truth, task.colour, task.border),
                output_ssim=ssim(result, truth, task.colour, task.border),
                film=tuple(psnr(frame, truth, task.colour, task.border) for frame in frames),
                seconds=seconds,
            )
        )
    if not rows:
        raise ValueError(f"task {task.name} was given no photos")
    return Report(task.name, restorer_name, tuple(rows))


def spearman(first: Iterable[float], second: Iterable[float]) -> float:
    """Rank correlation in [-1, 1], ties sharing their mean rank; NaN where one side is constant."""
    a, b = _ranks(list(first)), _ranks(list(second))
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread > 0 else math.nan


def _ranks(values: list[float]) -> Tensor:
    return torch.tensor(
        [sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values],
        dtype=torch.float64,
    )


def _cropped(photo: Tensor, multiple: int, name: str) -> Tensor:
    height, width = (side // multiple * multiple for side in photo.shape[1:])
    if not height or not width:
        raise ValueError(f"{name} is smaller than {multiple} pixels")
    return photo[:, :height, :width]
