"""The page in a real browser: no error on its console, every picture shown, tables that sort, two themes."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfade.evaluation.report import write_report
from unfade.media.vips import pyvips

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)

Browse = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium): the page was not opened")

    def run(url: str, *flags: str) -> subprocess.CompletedProcess[str]:
        profile = tmp_path_factory.mktemp("profile")
        command = [str(found), *_FLAGS, f"--user-data-dir={profile}", *flags, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)

    return run


@pytest.fixture(scope="module")
def page(sample_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder, sample_run.report, sample_run.timing, sample_run.exhibits)


class _Dom(HTMLParser):
    """The rows of each table's body, the state of each heading, and attributes of the root."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root: dict[str, str | None] = {}
        self.rows: dict[str, list[list[str | None]]] = {}
        self.sorts: dict[str, list[str | None]] = {}
        self.images = 0
        self._table, self._body = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "html":
            self.root = given
        elif tag == "table":
            self._table = given.get("id") or ""
        elif tag == "tbody":
            self._body = True
        elif tag == "tr" and self._body:
            self.rows.setdefault(self._table, []).append([])
        elif tag in ("td", "th") and self._body:
            self.rows[self._table][-1].append(given.get("data-value"))
        elif tag == "th" and "aria-sort" in given:
            self.sorts.setdefault(self._table, []).append(given["aria-sort"])
        elif tag == "img":
            self.images += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "tbody":
            self._body = False


def _opened(browse: Browse, url: str) -> tuple[_Dom, list[str]]:
    """The page after its scripts have run, and what stands on its console."""
    done = browse(url, "--dump-dom", "--enable-logging=stderr", "--v=0")
    return _Dom(done.stdout), re.findall(r"CONSOLE.*", done.stderr)


@pytest.fixture(scope="module")
def plain(browse: Browse, page: Path) -> tuple[_Dom, list[str]]:
    """The page as it is, opened once."""
    return _opened(browse, page.as_uri())


def test_the_page_opens_without_a_word_and_shows_every_picture(
    plain: tuple[_Dom, list[str]], sample_run: Any
) -> None:
    dom, console = plain
    assert console == []
    # 3 pictures, 3 crops at each of 2 places, 2 error maps and 9 frames for each of 4 cases.
    assert len(sample_run.exhibits) == 4 and dom.images == 4 * (3 + 6 + 2 + 9)
    assert dom.root["data-ready"] == "0"


def test_errors_and_broken_pictures_would_be_seen(browse: Browse, page: Path, tmp_path: Path) -> None:
    spoiled = page.read_text(encoding="utf-8").replace(
        "data:image/webp;base64,", "data:image/webp;base64,AAAA", 2
    )
    copy = tmp_path / "spoiled.html"
    copy.write_text(spoiled.replace("</body>", "<script>absent()</script></body>"), encoding="utf-8")
    dom, console = _opened(browse, copy.as_uri())
    assert dom.root["data-ready"] == "2" and any("absent is not defined" in line for line in console)


def test_the_page_may_load_nothing_from_outside(browse: Browse, page: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.svg"
    outside.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    copy = tmp_path / "curious.html"
    text = page.read_text(encoding="utf-8")
    copy.write_text(
        text.replace("</body>", f'<img alt="" src="{outside.as_uri()}"></body>'), encoding="utf-8"
    )
    dom, console = _opened(browse, copy.as_uri())
    assert dom.root["data-ready"] == "1" and any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_link_sorts_a_table(browse: Browse, page: Path, sample_run: Any, direction: str) -> None:
    dom, console = _opened(browse, f"{page.as_uri()}#sort=summary:2:{direction}")
    means = {
        entry["model"]: entry["by_images"]["output"]["psnr-rgb"] for entry in sample_run.report["averages"]
    }
    wanted = sorted(means, key=lambda model: means[model], reverse=direction == "desc")
    assert console == [] and [row[0] for row in dom.rows["summary"]] == wanted
    word = {"asc": "ascending", "desc": "descending"}[direction]
    assert dom.sorts["summary"] == ["none", "none", word] + ["none"] * 5


def test_headings_sort_and_what_is_missing_stands_last(
    browse: Browse, page: Path, plain: tuple[_Dom, list[str]], tmp_path: Path
) -> None:
    text = page.read_text(encoding="utf-8")
    heading = "document.querySelectorAll('#groups-0 thead th')[6].firstElementChild"
    assert [row[6] for row in plain[0].rows["groups-0"]] == ["30.71", ""]
    for clicks, wanted in ((1, "descending"), (2, "ascending")):
        copy = tmp_path / f"{clicks}.html"
        script = f"<script>{f'{heading}.click();' * clicks}</script></body>"
        copy.write_text(text.replace("</body>", script), encoding="utf-8")
        dom, console = _opened(browse, copy.as_uri())
        assert console == [] and dom.sorts["groups-0"][6] == wanted
        # Both directions leave the undefined at the end.
        assert [row[6] for row in dom.rows["groups-0"]] == ["30.71", ""]
    copy = tmp_path / "names.html"
    script = f"<script>{heading.replace('[6]', '[0]')}.click();{heading.replace('[6]', '[0]')}.click();</script></body>"
    copy.write_text(text.replace("</body>", script), encoding="utf-8")
    dom, _ = _opened(browse, copy.as_uri())
    assert [row[0] for row in dom.rows["groups-0"]] == ["noise-50", "noise-25"]


@pytest.mark.parametrize(
    "link", ["#sort=absent:0:asc", "#sort=summary:99:asc", "#sort=main:0:asc", "#sort=summary:x"]
)
def test_links_that_make_no_sense_do_nothing(browse: Browse, page: Path, sample_run: Any, link: str) -> None:
    dom, console = _opened(browse, page.as_uri() + link)
    names = [entry["name"] for entry in sample_run.report["models"]]
    assert console == [] and [row[0] for row in dom.rows["summary"]] == names


def test_light_and_dark(browse: Browse, page: Path, tmp_path: Path) -> None:
    means = {}
    for name, scheme in (("dark", 0), ("light", 1)):
        shot = tmp_path / f"{name}.png"
        theme = f"--blink-settings=preferredColorScheme={scheme}"
        browse(page.as_uri(), theme, "--window-size=1280,1000", f"--screenshot={shot}")
        image = pyvips.Image.new_from_file(str(shot))
        pixels = np.frombuffer(bytes(image.write_to_memory()), np.uint8)
        means[name] = pixels.reshape(-1, image.bands)[:, :3].mean()
    assert means["light"] > 225 and means["dark"] < 60


def test_many_notes_fold_away_and_a_link_to_one_opens_them(
    browse: Browse, sample_run: Any, tmp_path: Path
) -> None:
    entry = sample_run.report["published"][0]
    many = [{**entry, "system": f"S{index}", "caveat": f"c{index}"} for index in range(12)]
    page = write_report(tmp_path, {**sample_run.report, "published": many}, sample_run.timing)
    for link in ("", "#note-groups-0-11"):
        done = browse(page.as_uri() + link, "--dump-dom")
        assert ('<details class="many" open' in done.stdout) == bool(link)
