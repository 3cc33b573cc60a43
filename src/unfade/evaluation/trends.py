"""What is to be seen along Progressive's films, and whether it is there: the paper's trends as verdicts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unfade.evaluation.benchmarks.benchmark import Benchmark
from unfade.evaluation.benchmarks.tasks import task_of
from unfade.evaluation.contender import Contender
from unfade.evaluation.metrics.metric import Metric

# A film rises where Spearman's correlation of frame and metric is at least this, and its last frame is better than its
# first with at most this probability of chance.
LEAST_RHO, MOST_P = 0.9, 0.01
# A curve has settled where it changes by at most this share of what it changed before.
SETTLED = 0.25
# Frames (counted from 0) next to borders of latents, which hold frames 1, 2 to 5 and 6 to 9.
BORDERS = frozenset((0, 1, 4, 5))

Verdict = dict[str, Any]


def verdicts(
    benchmark: Benchmark,
    contenders: Sequence[Contender],
    metrics: Sequence[Metric],
    curves: Sequence[Mapping[str, Any]],
    pairs: Sequence[Mapping[str, Any]],
) -> list[Verdict]:
    """Each trend with whether it holds, of the contenders that are Progressive and were judged along their films.

    Args:
        benchmark: whose groups are tasks.
        contenders: with `words` where they are Progressive, and `tuned`.
        metrics: that were measured; PSNR and SSIM (each in the first convention) and LPIPS count.
        curves, pairs: as a report has them.

    Returns:
        For each: "trend" ("rises", "control", "shape", "words", "settles" or "kinks"), "group", "model", "metric",
        "holds" (None where it can't be told) and "why", a sentence.

    Source: Progressive Restoration (arXiv 2512.02273), figures 2 and 4; the thresholds are this project's.
    """
    judged = {one.name: one for one in contenders if one.words}
    tasks = {group.name: task for group in benchmark.groups if (task := task_of(group))}
    chosen = _judges(metrics)
    found: list[Verdict] = []
    for row in curves:
        if row["model"] not in judged or row["group"] not in tasks or row["metric"] not in chosen:
            continue
        task, metric = tasks[row["group"]], chosen[row["metric"]]
        if judged[row["model"]].tuned is False and any(one.tuned for one in judged.values()):
            found.append(_control(row, metric))
            continue
        found.append(_rises(row, metric))
        found += _shape(row, metric, task)
        found += _settles(row, metric) if benchmark.name == "reloblur" else []
        found += _kinks(row, metric)
    return found + _words(judged, tasks, chosen, pairs)


def _judges(metrics: Sequence[Metric]) -> dict[str, Metric]:
    """The first PSNR and SSIM, and LPIPS, by name."""
    kinds = ("psnr", "ssim", "lpips")
    firsts = (next((one for one in metrics if one.name.split("-")[0] == kind), None) for kind in kinds)
    return {one.name: one for one in firsts if one is not None}


def _verdict(trend: str, row: Mapping[str, Any], holds: bool | None, why: str) -> Verdict:
    told = {name: row[name] for name in ("group", "model", "metric")}
    return {"trend": trend, **told, "holds": holds, "why": why}


def _better(row: Mapping[str, Any], metric: Metric) -> bool | None:
    """Whether the last frame is better than the first beyond chance; None where too few photos tell."""
    gain = row["mean"][-1] - row["mean"][0]
    if (gain if metric.higher_is_better else -gain) <= 0:
        return False
    return None if math.isnan(row["improved_p"]) else row["improved_p"] < MOST_P


def _along(row: Mapping[str, Any], metric: Metric) -> str:
    rho, p = row["spearman"]["rho"], row["improved_p"]
    gain = row["mean"][-1] - row["mean"][0]
    chance = "six photos are needed to tell it from chance" if math.isnan(p) else f"p {p:.2g}"
    return f"{metric.label} goes by {gain:+.4g} from the first frame to the last (rho {rho:.2f}; {chance})"


def _rises(row: Mapping[str, Any], metric: Metric) -> Verdict:
    rho, better = row["spearman"]["rho"], _better(row, metric)
    # A film that is the same throughout has no rho.
    holds = better if rho >= LEAST_RHO else False
    return _verdict("rises", row, holds, f"films should get better: {_along(row, metric)}")


def _control(row: Mapping[str, Any], metric: Metric) -> Verdict:
    """An untuned base beside a tuned one: its last frame should be no better than its first."""
    better = _better(row, metric)
    holds = None if better is None else not better
    return _verdict("control", row, holds, f"the untuned base should not rise: {_along(row, metric)}")


def _shape(row: Mapping[str, Any], metric: Metric, task: str) -> list[Verdict]:
    """How the rise is spread over the frames: early, gradual, or in every frame."""
    sign = 1 if metric.higher_is_better else -1
    steps = [sign * (after - before) for before, after in zip(row["mean"], row["mean"][1:], strict=False)]
    whole = sum(steps)
    if task == "lowlight":
        holds = all(step > 0 for step in steps)
        return [_verdict("shape", row, holds, f"brightening should be strictly monotone: {_each(steps)}")]
    if metric.name.split("-")[0] != "psnr":
        return []
    if whole <= 0:
        return [_verdict("shape", row, False, "there is no rise whose shape could be told")]
    if task == "resolution":
        early = sum(steps[: len(steps) // 2]) / whole
        share = f"{100 * early:.0f} % of the rise"
        why = f"enlarging should gain early, then level out: the first half of the way has {share}"
        return [_verdict("shape", row, early > 0.5, why)]
    most = max(steps) / whole
    why = f"deblurring should be gradual, no step having half of the rise: the largest has {100 * most:.0f} %"
    return [_verdict("shape", row, most < 0.5, why)]


def _each(steps: Sequence[float]) -> str:
    fallen = [str(index + 2) for index, step in enumerate(steps) if step <= 0]
    return f"it falls at frame {', '.join(fallen)}" if fallen else "every frame is better than the one before"


def _settles(row: Mapping[str, Any], metric: Metric) -> list[Verdict]:
    """LPIPS falls in the early frames and settles near the middle one."""
    if metric.name.split("-")[0] != "lpips" or len(row["mean"]) < 3:
        return []
    first, middle, last = row["mean"][0], row["mean"][len(row["mean"]) // 2], row["mean"][-1]
    holds = middle < first and abs(last - middle) <= SETTLED * (first - middle)
    why = f"LPIPS should fall to the middle frame and settle: {first:.4f}, {middle:.4f}, {last:.4f}"
    return [_verdict("settles", row, holds, why)]


def _kinks(row: Mapping[str, Any], metric: Metric) -> list[Verdict]:
    """Sharp bends are expected where latents meet, and nowhere else."""
    if metric.name.split("-")[0] != "psnr" or len(row["mean"]) != 9:
        return []
    kinks = row["kinks"]
    told = f"at frame {', '.join(str(index + 1) for index in kinks)}" if kinks else "there is none"
    holds = all(index in BORDERS for index in kinks) if kinks else None
    return [_verdict("kinks", row, holds, f"kinks should lie where latents meet (1|2, 5|6): {told}")]


def _words(
    judged: Mapping[str, Contender],
    tasks: Mapping[str, str],
    chosen: Mapping[str, Metric],
    pairs: Sequence[Mapping[str, Any]],
) -> list[Verdict]:
    """Scene-adaptive against uniform prompts: better in the mean on every task."""
    found: list[Verdict] = []
    both = dict.fromkeys((row["model"], row["against"]) for row in pairs)
    for model, against in both:
        one, other = judged.get(model), judged.get(against)
        if one is None or other is None or one.tuned != other.tuned or one.words == other.words:
            continue
        # A pair is the first minus the second.
        sign, better = (1, model) if one.words == "scene" else (-1, against)
        for name, metric in chosen.items():
            rows = [
                row
                for row in pairs
                if (row["model"], row["against"], row["metric"]) == (model, against, name)
                and row["group"] in tasks
            ]
            if not rows:
                continue
            up = sign if metric.higher_is_better else -sign
            holds = all(up * row["mean"] > 0 for row in rows)
            told = "; ".join(f"{row['group']} {_interval(row, sign)}" for row in rows)
            why = f"scene-adaptive prompts should be better on every task: {metric.label} {told}"
            found.append(_verdict("words", {"group": "all", "model": better, "metric": name}, holds, why))
    return found


def _interval(row: Mapping[str, Any], sign: int) -> str:
    mean, low, high = (sign * row[name] for name in ("mean", "low", "high"))
    return f"{mean:+.3g} ({min(low, high):+.3g} to {max(low, high):+.3g}, p {row['p']:.2g})"
