"""The scripts behind the README: the demo really runs, and tables come from results only."""

import sys
from pathlib import Path

import pytest

from unfade.media.images import probe_image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import demo  # noqa: E402  # pyright: ignore[reportMissingImports]
import tables  # noqa: E402  # pyright: ignore[reportMissingImports]


def test_the_demo_makes_damaged_photos_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", "--output", str(tmp_path / "demo")])
    assert demo.main() == 0
    told = capsys.readouterr().out
    figures = {line.split()[0]: line.split()[1:] for line in told.splitlines() if len(line.split()) == 3}
    for name in ("noise", "darkness", "defocus", "low-resolution", "jpeg"):
        before, after = map(float, figures[name])
        assert after > before, name
        assert (tmp_path / "demo/restored" / f"{name}.mp4").stat().st_size > 1000
        assert len(list((tmp_path / "demo/restored" / f"{name}_frames").iterdir())) == 9
    assert probe_image(tmp_path / "demo/pairs.png").width > 800


def test_tables_replace_only_what_stands_between_their_markers() -> None:
    text = "before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n"
    assert tables.replaced(text, "speed", ["new"]) == "before\n<!-- speed -->\nnew\n<!-- /speed -->\nafter\n"
    assert tables.replaced(text, "quality", ["new"]) == text


@pytest.mark.parametrize("name", ["README.md", "src/unfade/backbones/weights/README.md"])
def test_the_published_tables_are_those_of_the_results(name: str) -> None:
    text = (ROOT / name).read_text()
    for part, lines in tables.parts().items():
        assert tables.replaced(text, part, lines) == text, (
            f"{part} in {name}: run `python benchmarks/tables.py`"
        )
