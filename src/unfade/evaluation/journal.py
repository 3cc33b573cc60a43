"""Results kept one by one as they come, so that a run that was stopped goes on where it stood."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from unfade.core import OutputError
from unfade.evaluation.alignment import Shift

FORMAT = 1
_LIBRARIES = (
    "torch", "numpy", "pyvips", "pyvips-binary", "av", "opencv-contrib-python-headless", "opencv-python-headless",
    "opencv-python", "bm3d", "scipy", "torchmetrics", "pyiqa", "spandrel",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case restored by one contender.

    Attributes:
        group, name: of the case.
        model: the contender's name.
        width, height, frames: of what is compared.
        input, output: metric to value; the input is compared as the film's first frame is, enlarged where asked.
        film: metric to one value a frame of the film.
        shift: how "input" and "output" lay beside the truth; empty where the benchmark does not align.
        applies: False where the contender has nothing to say to this case; then there are no values.
        seconds: wall time of the restoration.
        threads: CPU threads it had.
    """

    group: str
    name: str
    model: str
    width: int = 0
    height: int = 0
    frames: int = 1
    input: Mapping[str, float] = field(default_factory=dict[str, float])
    output: Mapping[str, float] = field(default_factory=dict[str, float])
    film: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    shift: Mapping[str, Shift] = field(default_factory=dict[str, Shift])
    applies: bool = True
    seconds: float = 0.0
    threads: int = 0

    @property
    def megapixels(self) -> float:
        """Millions of pixels in all frames."""
        return self.width * self.height * self.frames / 1e6


class Journal:
    """A file of one JSON line a result, keyed by everything the result depends on.

    A line cut short by a crash is passed over; unknown keys are left alone, so that one folder may serve several runs.

    Args:
        path: of the file; None keeps nothing on disk.

    Raises:
        OutputError: the path is a folder.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Row] = {}
        self._whole = True
        if path is not None and path.exists():
            if not path.is_file():
                raise OutputError(
                    f"{path} is a folder, but the journal is to be kept there; choose another output"
                )
            content = path.read_bytes()
            self._whole = content[-1:] in (b"", b"\n")
            for line in content.split(b"\n"):
                row = _decoded(line)
                if row is not None:
                    self._known[row[0]] = row[1]

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Row | None:
        """The result of this key, if it was kept."""
        return self._known.get(key)

    def put(self, key: str, row: Row) -> None:
        """Keeps a result, on disk before the call returns.

        Raises:
            OutputError: the file can't be written.
        """
        self._known[key] = row
        if self._path is None:
            return
        line = json.dumps({"format": FORMAT, "key": key, **asdict(row)}) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                file.write((b"" if self._whole else b"\n") + line.encode())
                file.flush()
            self._whole = True
        except OSError as error:
            raise OutputError(f"{self._path} can't be written: {error.strerror or error}") from error


def key_of(**parts: Any) -> str:
    """A hash of everything a result depends on; the parts must be JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def software() -> dict[str, str | None]:
    """What computes: a hash of this package's own source, and the versions of the libraries it computes with.

    A result kept by other software is not taken for this one's.
    """
    package = Path(str(files("unfade")))
    source = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    versions: dict[str, str | None] = {"unfade": source.hexdigest()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


class Fingerprints:
    """SHA-256 of files, each read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        if path not in self._known:
            with open(path, "rb") as file:
                self._known[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._known[path]


def _decoded(line: bytes) -> tuple[str, Row] | None:
    try:
        values = json.loads(line)
        if values.pop("format") != FORMAT:
            return None
        key = values.pop("key")
        values["film"] = {name: tuple(series) for name, series in values["film"].items()}
        values["shift"] = {side: Shift(**shift) for side, shift in values.get("shift", {}).items()}
        return key, Row(**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
