"""The paper's trends as verdicts: films that are known to show them or not, through the whole report."""

from collections.abc import Callable
from typing import Any

import pytest

from unfade.evaluation.benchmarks.benchmark import Group
from unfade.evaluation.benchmarks.table import BENCHMARKS, benchmark
from unfade.evaluation.benchmarks.tasks import task_of
from unfade.evaluation.contender import Contender
from unfade.evaluation.journal import Row
from unfade.evaluation.measure import Settings
from unfade.evaluation.metrics.metric import Metric
from unfade.evaluation.peers import Identity
from unfade.evaluation.report.page import render_page
from unfade.evaluation.summary import summarise
from unfade.evaluation.trends import verdicts

SCENE = Contender(name="progressive", kind="model", make=lambda facts: Identity(), words="scene", tuned=True)
UNIFORM = Contender(name="fixed", kind="model", make=lambda facts: Identity(), words="uniform", tuned=True)
BASE = Contender(name="base", kind="model", make=lambda facts: Identity(), words="scene", tuned=False)
TINY = Contender(name="tiny", kind="model", make=lambda facts: Identity())


def _metric(name: str, higher: bool) -> Metric:
    return Metric(
        name=name, label=name.upper(), unit="", higher_is_better=higher, of="pair", convention="", source="",
        measure=lambda *clips: 0.0,
    )  # fmt: skip


PSNR, LPIPS = _metric("psnr-rgb", True), _metric("lpips", False)
RISING = [20, 21, 22, 23, 24, 25, 26, 27, 28]
EARLY = [20, 23, 25, 26, 26.5, 26.8, 27, 27.1, 27.2]
FLAT = [20.0, 20.1, 19.9, 20.0, 20.1, 19.9, 20.0, 20.1, 20.0]


def _rows(group: str, model: str, film: list[float], photos: int = 8, metric: str = "psnr-rgb") -> list[Row]:
    """Photos that differ in their level and, by a hair, in how they change."""
    found: list[Row] = []
    for number in range(photos):
        values = tuple(value + 0.3 * number + 1e-3 * number * (index % 2) for index, value in enumerate(film))
        ends = {metric: values[0]}, {metric: values[-1]}
        name = f"{number}.png"
        found.append(
            Row(group=group, name=name, model=model, input=ends[0], output=ends[1], film={metric: values})
        )
    return found


def _told(rows: list[Row], *contenders: Contender, metrics: tuple[Metric, ...] = (PSNR,), name: str) -> Any:
    report = summarise(benchmark(name), contenders, Settings(film=9), metrics, (), rows)
    return {(one["trend"], one["group"], one["model"]): one for one in report["verdicts"]}, report


def test_films_that_show_the_papers_trends_are_said_to() -> None:
    films = {"resolution": EARLY, "blur": RISING, "lowlight": RISING}
    rows = [row for task, film in films.items() for row in _rows(f"{task}-strong", "progressive", film)]
    rows += [
        row
        for task, film in films.items()
        for row in _rows(f"{task}-strong", "fixed", [value - 0.05 for value in film])
    ]
    rows += [row for task in films for row in _rows(f"{task}-strong", "base", FLAT)]
    rows += _rows("blur-strong", "tiny", RISING)
    found, report = _told(rows, SCENE, UNIFORM, BASE, TINY, name="div2k-progression")
    for task in films:
        for model in ("progressive", "fixed"):
            assert found["rises", f"{task}-strong", model]["holds"] is True
            assert found["shape", f"{task}-strong", model]["holds"] is True
        assert found["control", f"{task}-strong", "base"]["holds"] is True
    assert found["words", "all", "progressive"]["holds"] is True
    assert "blur-strong +0.05 (+0.05 to +0.05" in found["words", "all", "progressive"]["why"]
    # Other models promise nothing of the kind, and a base makes no film.
    assert {model for _, _, model in found} == {"progressive", "fixed", "base"}
    assert {trend for trend, _, model in found if model == "base"} == {"control"}
    page = render_page(report, {"date": "", "models": [], "hardware": {}})
    assert (
        "Trends of the paper" in page
        and ">holds</b> progressive, blur-strong: films should get better" in page
    )


@pytest.mark.parametrize(
    ("task", "film", "trend", "said"),
    [
        ("blur", FLAT, "rises", "films should get better"),
        ("blur", RISING[::-1], "rises", "goes by -8"),
        ("blur", [20] * 5 + [27, 27.1, 27.2, 27.3], "shape", "the largest has 96 %"),
        ("resolution", [*RISING[:-1], 48], "shape", "the first half of the way has 14 % of the rise"),
        ("lowlight", [20, 21, 22, 23, 22.9, 25, 26, 27, 28], "shape", "it falls at frame 5"),
        ("blur", [20, 20.5, 21, 24, 24.5, 25, 25.5, 26, 26.5], "kinks", "at frame 3, 4"),
    ],
)
def test_films_that_do_not_are_said_not_to(task: str, film: list[float], trend: str, said: str) -> None:
    found, _ = _told(_rows(f"{task}-mild", "progressive", film), SCENE, name="div2k-progression")
    verdict = found[trend, f"{task}-mild", "progressive"]
    assert verdict["holds"] is False and said in verdict["why"]


def test_a_base_that_rises_is_no_control_and_alone_it_is_judged_like_any_other() -> None:
    rows = _rows("blur-mild", "progressive", RISING) + _rows("blur-mild", "base", RISING)
    found, _ = _told(rows, SCENE, BASE, name="div2k-progression")
    assert found["control", "blur-mild", "base"]["holds"] is False
    found, _ = _told(_rows("blur-mild", "base", RISING), BASE, name="div2k-progression")
    assert found["rises", "blur-mild", "base"]["holds"] is True


def test_worse_words_and_too_few_photos_are_not_claimed() -> None:
    rows = _rows("blur-mild", "progressive", RISING, 5)
    rows += _rows("blur-mild", "fixed", [value + 0.1 for value in RISING], 5)
    found, _ = _told(rows, SCENE, UNIFORM, name="div2k-progression")
    assert found["words", "all", "progressive"]["holds"] is False
    rises = found["rises", "blur-mild", "progressive"]
    assert rises["holds"] is None and "six photos are needed" in rises["why"]
    # Named the other way round, it is the same difference.
    turned, _ = _told(rows, UNIFORM, SCENE, name="div2k-progression")
    assert turned["words", "all", "progressive"]["why"] == found["words", "all", "progressive"]["why"]


def test_local_blur_settles_near_the_middle() -> None:
    falling = [0.4, 0.35, 0.3, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]
    for film, holds in ((falling, True), ([0.4 - 0.03 * index for index in range(9)], False)):
        rows = _rows("ReLoBlur", "progressive", film, metric="lpips")
        found, _ = _told(rows, SCENE, metrics=(LPIPS,), name="reloblur")
        assert found["settles", "ReLoBlur", "progressive"]["holds"] is holds
        assert found["rises", "ReLoBlur", "progressive"]["metric"] == "lpips"


def test_groups_know_their_task() -> None:
    progression = [task_of(group) for group in benchmark("div2k-progression").groups]
    assert progression == ["resolution"] * 2 + ["blur"] * 2 + ["lowlight"] * 2
    assert [task_of(group) for group in benchmark("reloblur").groups] == ["blur"]
    told: Callable[[str, int], Any] = lambda make, scale=1: task_of(Group(name="g", make=make, scale=scale))  # noqa: E731
    assert (told("x4", 4), told("motion-15", 1), told("dark-0.1", 1)) == ("resolution", "blur", "lowlight")
    assert [told(make, 1) for make in ("noise-25", "Lowlight_Noise", "Haze", "", "clean")] == [None] * 5
    for one in BENCHMARKS.values():
        assert [task_of(group) for group in one.groups]


def test_without_films_there_is_nothing_to_say() -> None:
    assert verdicts(benchmark("div2k-progression"), [SCENE], [PSNR], [], []) == []
