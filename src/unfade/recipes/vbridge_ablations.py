"""V-Bridge's ablations as runs: frames, curriculum, data scale, drift correction, kind of trajectory.

    python -m unfade.recipes.run_vbridge_ablations frames --model FOLDER --pairs DIR --held-out DIR --runs runs/frames

trains every row of a table one after another, goes on where it stopped when started again, and writes the table in
the paper's form (`table.md`, `table.json`). Hardware and time: one run of 300 epochs over 1,050 pairs is about 15
H100-hours at the paper's sizes (specification, section 6, an estimate); `--epochs` and `--size` make any of them short.
Expected: Tables 3 to 5 of the paper; not measured here, as the base's weights can't be had on the machines this
project is built on. The same tables at CPU size are in `docs/runs/vbridge-cpu/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from unfade.conditioning.lora import LoraSettings
from unfade.training.vbridge_run import VBridgeRun

Trajectory = Literal["linear", "fade"]


@dataclass(frozen=True, slots=True)
class Ablation:
    """One row of a table.

    Attributes:
        name: as the table calls it.
        run: the training.
        trajectory: of the sequences; "fade" needs clean photos instead of pairs.
        each: pairs for each category.
        corrects: whether a drift correction is trained as well, on further pairs, and applied.
    """

    name: str
    run: VBridgeRun
    trajectory: Trajectory = "linear"
    each: int = 50
    corrects: bool = False


# One GPU trains an adapter; the paper's way is all weights on eight.
_LORA = VBridgeRun(lora=LoraSettings(), lr=1e-4)


def _fixed(**changes: object) -> VBridgeRun:
    """300 epochs at the middle size, where the paper compares everything but the curriculum."""
    return replace(_LORA, stages=((300, 704),), **changes)  # type: ignore[arg-type]


def frames() -> tuple[Ablation, ...]:
    """Table 3: how many frames lead from the degraded photo to the restored one. Paper: 9 is best (23.35 dB)."""
    return tuple(Ablation(f"{count} frames", _fixed(frames=count)) for count in (5, 9, 17, 33, 61))


def curriculum() -> tuple[Ablation, ...]:
    """Table 4: sizes one after another, 300 epochs in all. Paper: coarse to fine is best (23.68 dB)."""
    schedules = {
        "512": ((300, 512),),
        "704": ((300, 704),),
        "960": ((300, 960),),
        "512 + 704": ((150, 512), (150, 704)),
        "704 + 512": ((150, 704), (150, 512)),
        "512 + 704 + 960": ((100, 512), (100, 704), (100, 960)),
    }
    return tuple(Ablation(name, replace(_LORA, stages=stages)) for name, stages in schedules.items())


def data() -> tuple[Ablation, ...]:
    """Table 5: how many pairs, by the paper's names for 10, 50 and 400 a category. Paper: more is better (24.14 dB)."""
    return tuple(
        Ablation(name, _fixed(), each=each) for name, each in (("0.2K", 10), ("1K", 50), ("8K", 400))
    )


def drift() -> tuple[Ablation, ...]:
    """Table 1's last two rows: without and with drift correction. Paper: +1.5 dB, and less than nothing for JPEG."""
    return (Ablation("w/o DC", _LORA), Ablation("with DC", _LORA, corrects=True))


def trajectory() -> tuple[Ablation, ...]:
    """Ours: frames that blend pixels against frames in which the degradation itself falls. No row in the paper."""
    return (Ablation("linear", _fixed()), Ablation("fade", _fixed(), trajectory="fade"))


ABLATIONS: Mapping[str, Callable[[], tuple[Ablation, ...]]] = {
    "frames": frames,
    "curriculum": curriculum,
    "data": data,
    "drift": drift,
    "trajectory": trajectory,
}


def shortened(row: Ablation, epochs: int | None = None, size: int | None = None) -> Ablation:
    """The same comparison in less time.

    Args:
        row: of a table.
        epochs: in all, shared by the stages as before (each keeps at least one).
        size: of the largest crop; the others shrink with it, to multiples of 32.
    """
    stages = row.run.stages
    if epochs is not None:
        whole = sum(count for count, _ in stages)
        stages = tuple((max(1, round(count * epochs / whole)), crop) for count, crop in stages)
    if size is not None:
        stages = tuple((count, max(32, round(crop * size / 960 / 32) * 32)) for count, crop in stages)
    return replace(row, run=replace(row.run, stages=stages))
