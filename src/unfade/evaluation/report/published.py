"""Published numbers beside ours, each with its source and with what differs from our protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DAGGER = "†"
_STAND_IN = "other pictures (ours are a synthetic stand-in)"


@dataclass(frozen=True, slots=True)
class Note:
    """A footnote that cells share.

    Attributes:
        anchor: its id in the page.
        mark: what stands in the cell: a number, after a dagger where the protocol differs.
        systems: whose numbers it is about.
        source: paper and table.
        convention: how the authors counted.
        caveat: what else is known about the numbers.
        differences: between their protocol and ours; none means the numbers can be compared.
    """

    anchor: str
    mark: str
    systems: tuple[str, ...]
    source: str
    convention: str
    caveat: str
    differences: tuple[str, ...]

    @property
    def hint(self) -> str:
        """The footnote as one line."""
        differs = f"Protocol differs: {'; '.join(self.differences)}." if self.differences else ""
        caveat = f"Note: {self.caveat}." if self.caveat else ""
        return " ".join(part for part in (f"{self.source}.", differs, caveat) if part)


@dataclass(frozen=True, slots=True)
class Notes:
    """The footnotes of one table, numbered as they are first met; equal ones are one.

    Attributes:
        table: id of the table, in front of the anchors.
        synthetic: whether ours were measured on a stand-in, which is then the first difference of all.
        texts: for each distinct footnote the systems it is about.
    """

    table: str
    synthetic: bool = False
    texts: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = field(default_factory=dict)

    def of(self, entry: Mapping[str, Any]) -> Note:
        """The footnote of one published number."""
        table = str(entry.get("table") or "")
        # "Table 2, p. 9" says what it is; a bare "2" or "IV" does not.
        place = f"table {table}" if table and " " not in table else table
        differences = [str(text).rstrip(".") for text in entry.get("differences") or ()]
        if self.synthetic and not any("synthetic" in text for text in differences):
            differences.insert(0, _STAND_IN)
        key = (
            ", ".join(part for part in (str(entry.get("paper") or ""), place) if part) or "source unknown",
            str(entry.get("convention") or ""),
            str(entry.get("caveat") or "").rstrip("."),
            tuple(differences),
        )
        systems = self.texts.setdefault(key, [])
        if entry["system"] not in systems:
            systems.append(entry["system"])
        return self._note(list(self.texts).index(key) + 1, key)

    def all(self) -> tuple[Note, ...]:
        """Every footnote given out so far, in order."""
        return tuple(self._note(index, key) for index, key in enumerate(self.texts, 1))

    def _note(self, index: int, key: tuple[str, str, str, tuple[str, ...]]) -> Note:
        source, convention, caveat, differences = key
        mark = f"{DAGGER if differences else ''}{index}"
        return Note(
            f"note-{self.table}-{index}",
            mark,
            tuple(self.texts[key]),
            source,
            convention,
            caveat,
            differences,
        )
