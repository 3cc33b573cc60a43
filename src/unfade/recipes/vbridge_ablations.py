"""V-Bridge's ablations as runs: frames, curriculum, data scale, drift correction, kind of trajectory.

    python -m unfade.recipes.run_vbridge_ablations frames --model FOLDER --pairs DIR --held-out 5 --runs runs/frames

trains every row of a table one after another, goes on where it stopped when started again, and writes the table in
the paper's form (`table.md`, `table.json`). Hardware and time: one run of 300 epochs over 1,050 pairs is about 15
H100-hours at the paper's sizes (specification, section 6, an estimate); `--epochs` and `--size` make any of them short.
Expected: Tables 3 to 5 of the paper; not measured here, as the base's weights can't be had on the machines this
project is built on. The same tables at CPU size are in `docs/runs/vbridge-cpu/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import combinations, pairwise
from typing import Any

from unfade.conditioning.lora import LoraSettings
from unfade.core import UsageError
from unfade.degrade.framing import sides_of
from unfade.training.sequences import Way
from unfade.training.vbridge_run import VBridgeRun


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
    trajectory: Way = "linear"
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
    """Table 4: sizes one after another, 300 epochs in all. Paper: coarse to fine is best (23.68 dB).

    Equal epochs are equal steps but not equal work: one at 960 takes about three and a half times the arithmetic of one
    at 512. Only "512 + 704" and "704 + 512" cost the same, and only they tell what the order does; between the other
    rows size, order and work differ at once.
    """
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
        epochs: in all, shared by the stages as before.
        size: of a crop of 960; all crops shrink alike, to multiples of 32.

    Raises:
        UsageError: there are fewer epochs than stages.
    """
    stages = row.run.stages
    if epochs is not None:
        counts = [count for count, _ in stages]
        ends = [round(sum(counts[:place]) * epochs / sum(counts)) for place in range(len(counts) + 1)]
        shares = [end - begin for begin, end in pairwise(ends)]
        if min(shares) < 1:
            raise UsageError(
                f"too few epochs ({epochs}) for the {len(stages)} stages of {row.name!r}; take more --epochs"
            )
        stages = tuple((share, crop) for share, (_, crop) in zip(shares, stages, strict=True))
    if size is not None:
        stages = tuple(
            (count, max(32, round(max(sides_of(crop)) * size / 960 / 32) * 32)) for count, crop in stages
        )
    return replace(row, run=replace(row.run, stages=stages))


def rows_of(
    table: str,
    *,
    epochs: int | None = None,
    size: int | None = None,
    each: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[Ablation, ...]:
    """A table's rows as they are to be trained.

    Args:
        table: a name in `ABLATIONS`.
        epochs, size: a shorter comparison; see `shortened`.
        each: pairs of each category to learn from, instead of each row's own number.
        changes: fields of `VBridgeRun` that differ in every row.

    Raises:
        UsageError: the table is unknown, a value is out of range, or the rows would not differ any more in what the
            table compares.
    """
    if table not in ABLATIONS:
        raise UsageError(f"unknown table {table!r}; there is {', '.join(ABLATIONS)}")
    rows, changed = ABLATIONS[table](), dict(changes or {})
    compared = [
        field.name
        for field in fields(VBridgeRun)
        if any(getattr(row.run, field.name) != getattr(rows[0].run, field.name) for row in rows)
    ]
    if each is not None:
        changed["each"] = each
        compared += ["each"] if any(row.each != rows[0].each for row in rows) else []
    for name in compared:
        if name in changed:
            raise UsageError(
                f"{name} is what the table {table!r} compares, so it can't be the same in every row"
            )
    changed.pop("each", None)
    try:
        rows = tuple(
            replace(short, run=replace(short.run, **changed), each=row.each if each is None else each)
            for row in rows
            for short in (shortened(row, epochs, size),)
        )
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    for first, second in combinations(rows, 2):
        if replace(first, name=second.name) == second:
            raise UsageError(
                f"{first.name!r} and {second.name!r} are the same training at this size; take a larger --size"
            )
    return rows
