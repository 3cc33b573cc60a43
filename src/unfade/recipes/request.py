"""What the folder of a recipe was begun with, so that nobody goes on in it with something else."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unfade.core import InputError, UsageError
from unfade.recipes.vbridge_judging import write_json
from unfade.training.pairs import PairFiles


def hold_to(path: Path, asked: Mapping[str, Any]) -> None:
    """Writes down what is asked for, or checks that it is what the folder was begun with.

    Args:
        path: of the note in the folder.
        asked: whatever makes the folder's results what they are; values as JSON can hold them.

    Raises:
        UsageError: the folder was begun with something else; the first difference is named.
        InputError: the note can't be read.
        OutputError: it can't be written.
    """
    now = dict(_leaves(json.loads(json.dumps(asked))))
    if not path.exists():
        write_json(path, asked)
        return
    try:
        before = dict(_leaves(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read; choose another folder with --runs") from error
    for name in (*now, *before):
        if now.get(name) != before.get(name):
            raise UsageError(
                f"{path.parent} was begun with {name} {_shown(before.get(name))}, not {_shown(now.get(name))}; "
                "go on with that, or choose another folder with --runs"
            )


def names_hash(pairs: Iterable[PairFiles]) -> str:
    """What identifies a set of pairs: a hash of their names, 16 hex digits."""
    names = "\n".join(sorted(pair.name for pair in pairs))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Values that are no objects, by their whole name."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}: {key}" if name else key)


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value).strip('"')
