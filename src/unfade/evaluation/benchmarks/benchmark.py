"""What a benchmark is, as data: where its files lie, how they pair, how results are counted."""

from dataclasses import dataclass, field
from typing import Literal

from unfade.degrade.degradation import Strength
from unfade.evaluation.metrics.convention import RGB, Convention

Averaging = Literal["images", "groups"]
ANY_NAME = r"(.+)"
Holds = Literal["clean photos", "photo pairs", "clip pairs", "clips without truth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A part of a benchmark with its own row in the tables.

    Attributes:
        name: of the row; pixel draws depend on it.
        folder: stands for `{group}` in the layout.
        count: pairs (or photos, or clips) that a complete copy has; None where nobody says.
        make: what makes the input from the clean photo: one of `unfade.degrade.classic.CLASSIC`, or names known to
            `unfade.degrade.named`, joined by "+". For benchmarks of clean photos, and to synthesise others.
        strength: of a drawn degradation.
        scale: enlargement asked of the restorer; the input is that much smaller than the truth.
    """

    name: str
    folder: str = ""
    count: int | None = None
    make: str = ""
    strength: Strength = "any"
    scale: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where files lie below the data folder, `{group}` being the group's folder.

    Attributes:
        truth, degraded, masks: folders; "" where there is none. Clips are folders of frames or video files.
        truth_name, degraded_name: regular expressions for file names without extension; what `(...)` catches is the
            pair's name. Two folders may be one, told apart by these.
    """

    truth: str = ""
    degraded: str = ""
    masks: str = ""
    truth_name: str = ANY_NAME
    degraded_name: str = ANY_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A published test, or one of our own.

    Attributes:
        name, title: for the command line and for people.
        holds: what its files are.
        groups: in the order of its tables.
        layouts: alternatives; the first whose folders exist is taken.
        conventions: how PSNR and SSIM count; the first is the benchmark's own.
        averaging: the rule of its headline number: over all images alike, or over groups alike.
        oriented: whether EXIF orientation is applied, as viewers do, or ignored, as PIL does by default.
        resized: whether a result of another size is brought to the truth's (bicubic) instead of being an error.
        size: (width, height) a photo is cropped to in proportion and reduced to before anything else.
        short_side: pixels that the shorter side of an input read from a file is brought to before a restorer sees
            it, its truth likewise; None leaves both as they are.
        aligned: pixels that a clip may lie beside its truth, each way; it is shifted back by as many whole ones as
            fit best before it is compared. 0 compares what lies on the same place.
        masked: whether masks weigh the error.
        partial: whether groups were left out on request.
        synthetic: made from other photos than its own; marked wherever it appears.
        quantised: whether inputs are rounded to 8 bits.
        learned: networks its tables judge by, by name: taken besides those a run asks for, or said to be absent.
        citation, notes: source, and what is known to differ or is not known.
    """

    name: str
    title: str
    holds: Holds
    groups: tuple[Group, ...]
    layouts: tuple[Layout, ...] = (Layout(),)
    conventions: tuple[Convention, ...] = (RGB,)
    averaging: Averaging = "images"
    oriented: bool = True
    resized: bool = False
    size: tuple[int, int] | None = None
    short_side: int | None = None
    aligned: int = 0
    masked: bool = False
    partial: bool = False
    synthetic: bool = False
    quantised: bool = True
    learned: tuple[str, ...] = ()
    citation: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def counts(self) -> dict[str, int]:
        """Complete counts by group, where known."""
        return {group.name: group.count for group in self.groups if group.count is not None}

    @property
    def footage(self) -> bool:
        return self.holds in ("clip pairs", "clips without truth")

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what a restorer is given of an input of this size.

        Where there is a `short_side` the shorter side has exactly that, and the longer one keeps the proportions,
        rounded down to a whole pixel.
        """
        if self.short_side is None:
            return height, width
        shorter = min(height, width)
        return height * self.short_side // shorter, width * self.short_side // shorter

    def needs(self) -> str:
        """What has to be on disk, in a sentence or two."""
        ways: list[str] = []
        for layout in self.layouts:
            parts = {
                "truth": (layout.truth, layout.truth_name),
                "degraded": (layout.degraded, layout.degraded_name),
            }
            if self.holds == "clips without truth":
                del parts["truth"]
            if self.holds == "clean photos" or self.synthetic:
                del parts["degraded"]
            if layout.masks:
                parts["masks"] = (layout.masks, layout.truth_name)
            ways.append(", ".join(_place(what, *where) for what, where in parts.items()))
        text = f"{self.holds}: {'; or '.join(ways)}"
        folders = [group for group in self.groups if group.folder]
        if folders:
            text += f"; {{group}} is {', '.join(_counted(group.folder, group.count) for group in folders)}"
        total = sum(self.counts.values()) if len(self.counts) == len(self.groups) else None
        if self.holds == "clean photos":
            total = self.groups[0].count
        return text + (f"; {total} in all" if total else "")

    def rules(self) -> str:
        """How results are counted besides the conventions."""
        parts = [
            f"headline over {self.averaging} alike",
            f"EXIF orientation {'applied' if self.oriented else 'ignored'}",
        ]
        if self.size:
            parts.append(f"photos cut to {self.size[0]} x {self.size[1]}")
        if self.short_side:
            parts.append(f"inputs and truths brought to a short side of {self.short_side} (bicubic)")
        if self.resized:
            parts.append("results of another size are brought to the truth's")
        if self.aligned:
            parts.append(f"results shifted onto the truth by up to {self.aligned} whole pixels each way")
        if self.masked:
            parts.append("errors also weighed by masks")
        return "; ".join(parts)


def _place(what: str, folder: str, pattern: str) -> str:
    named = "" if pattern == ANY_NAME else f" as {pattern}"
    return f"{what} in {folder or 'the folder itself'}{named}"


def _counted(name: str, count: int | None) -> str:
    return name if count is None else f"{name} ({count})"
