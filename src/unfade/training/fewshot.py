"""Which pairs a run learns from: a few of each category, drawn by a seed and written down."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unfade.core import InputError, UsageError, generator
from unfade.media.atomic import atomic_output
from unfade.training.pairs import PairFiles, by_category

# Pairs of each category. With FoundIR's 20 groups and RealCE as one more, 50 are the 1,050 of V-Bridge's "1K"; what its
# other sets hold of each category is not said, and 10 and 400 come to 210 and 8,400.
PRESETS = {"50": 50, "1K": 50, "0.2K": 10, "8K": 400}
_KIND = "unfade pairs 1"


@dataclass(frozen=True, slots=True)
class Choice:
    """Pairs to learn from and others to validate on.

    Attributes:
        training, held_out: no pair is in both.
        seed: they were drawn with.
        each: how many of each category were asked for; 0 means all.
        held_out_each: how many of each category were to be held out; None where an older manifest does not say.
        barred: a hash of the names that were not to be drawn, "" where there were none; None as above.
    """

    training: tuple[PairFiles, ...]
    held_out: tuple[PairFiles, ...]
    seed: int
    each: int
    held_out_each: int | None = None
    barred: str | None = None

    def counts(self) -> dict[str, int]:
        """Pairs to learn from by category."""
        return {category: len(pairs) for category, pairs in by_category(self.training).items()}

    def check_asked(
        self, path: Path, each: int, seed: int, held_out: int, without: Iterable[str] = ()
    ) -> None:
        """Whether this choice, read from a manifest, is what `choose_pairs` would now be asked for.

        Args:
            path: of the manifest.
            each, seed, held_out, without: as for `choose_pairs`.

        Raises:
            UsageError: it was made by other settings, which says which.
        """
        settings = (
            ("few-shot", self.each or "all", each or "all"),
            ("held-out", self.held_out_each, held_out),
            ("seed", self.seed, seed),
        )
        for option, before, now in settings:
            if before not in (None, now):
                raise UsageError(
                    f"the pairs in {path} were drawn with --{option} {before}, not {now}; give that again, or choose "
                    "another folder with --runs"
                )
        if self.barred not in (None, _fingerprint(without)):
            raise UsageError(
                f"the pairs in {path} were drawn with another --without; give that again, or choose another folder "
                "with --runs"
            )


def choose_pairs(
    pairs: Iterable[PairFiles], each: int, seed: int, held_out: int = 0, without: Iterable[str] = ()
) -> Choice:
    """Draws pairs of each category; a category with fewer gives all it has.

    What a category draws depends on the seed, its name and its pairs' names, so other categories don't change it.
    The held-out pairs are drawn first: a larger `each` keeps them.

    Args:
        pairs: to choose from.
        each: of each category to learn from; 0 takes all that is left.
        seed: of the draw.
        held_out: of each category to validate on.
        without: names that must not be drawn, such as those another adapter learnt from.

    Raises:
        InputError: there are no pairs, or a category has none left to learn from.
    """
    barred = set(without)
    training: list[PairFiles] = []
    validation: list[PairFiles] = []
    for category, members in by_category(pairs).items():
        free = [pair for pair in members if pair.name not in barred]
        order = torch.randperm(len(free), generator=generator(seed, "few-shot", category)).tolist()
        drawn = [free[index] for index in order]
        validation += drawn[:held_out]
        rest = drawn[held_out : held_out + each] if each else drawn[held_out:]
        if not rest:
            raise InputError(
                f"{category} has {len(members)} pairs, of which none is left to learn from after {held_out} are held "
                f"out and {len(members) - len(free)} barred; add some or hold out fewer"
            )
        training += rest
    if not training:
        raise InputError("there are no pairs to choose from; name folders that hold some")
    return Choice(_sorted(training), _sorted(validation), seed, each, held_out, _fingerprint(barred))


def write_manifest(choice: Choice, path: Path) -> None:
    """Writes a choice as JSON that a reader can check, whole or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    content = {
        "kind": _KIND,
        "seed": choice.seed,
        "each": choice.each,
        "held_out_each": choice.held_out_each,
        "barred": choice.barred,
        "counts": choice.counts(),
        "training": [_row(pair) for pair in choice.training],
        "held_out": [_row(pair) for pair in choice.held_out],
    }
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_manifest(path: Path, pairs: Iterable[PairFiles]) -> Choice:
    """The choice a manifest names, out of pairs that were found.

    Raises:
        InputError: the file is not a manifest, names no pairs to learn from, or one that is not there.
    """
    content = _content(path)
    if not content["training"]:
        raise InputError(f"{path} names no pairs to learn from; delete it, and they are drawn anew")
    known = {pair.name: pair for pair in pairs}

    def found(rows: Sequence[dict[str, Any]]) -> tuple[PairFiles, ...]:
        for row in rows:
            if row["name"] not in known:
                raise InputError(
                    f"{path} names {row['name']} ({row['lq']}), which is not among the pairs; name the folders it was "
                    "made from, or choose another folder with --runs"
                )
        return tuple(known[row["name"]] for row in rows)

    return Choice(
        found(content["training"]),
        found(content["held_out"]),
        content["seed"],
        content["each"],
        content.get("held_out_each"),
        content.get("barred"),
    )


def names_in(path: Path) -> frozenset[str]:
    """All pairs a manifest names, to keep another run's set apart from it.

    Raises:
        InputError: the file is not a manifest.
    """
    content = _content(path)
    return frozenset(row["name"] for row in (*content["training"], *content["held_out"]))


def _fingerprint(names: Iterable[str]) -> str:
    """What tells one set of names from another; "" for none."""
    text = json.dumps(sorted(set(names)))
    return "" if text == "[]" else hashlib.sha256(text.encode()).hexdigest()[:16]


def _sorted(pairs: Iterable[PairFiles]) -> tuple[PairFiles, ...]:
    return tuple(sorted(pairs, key=lambda pair: pair.name))


def _row(pair: PairFiles) -> dict[str, str]:
    return {"name": pair.name, "lq": str(pair.lq), "hq": str(pair.hq)}


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] == _KIND and {"seed", "each", "training", "held_out"} <= content.keys():
            return content
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path} is not a manifest of pairs; it is the pairs.json in the folder of a run")
