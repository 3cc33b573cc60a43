"""A small real run as the report takes it: three peers on crops of the example photos, two noise levels."""

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor

from unfade.core import Clip, generator
from unfade.degrade.classic import noisy, quantise
from unfade.evaluation.peers import Bilateral, Identity, NonLocalMeans
from unfade.evaluation.report import Exhibit, worst_and_best
from unfade.media.images import read_image

CROPS = {
    "astronaut": ("astronaut.png", 60, 170),
    "chelsea": ("chelsea.png", 90, 130),
    "coffee": ("coffee.png", 120, 180),
}
HEIGHT, WIDTH = 120, 176
GROUPS = {"noise-25": 25.0, "noise-50": 50.0}
TAUS = [index / 8 for index in range(9)]


@dataclass(frozen=True)
class SampleRun:
    report: dict[str, Any]
    timing: dict[str, Any]
    exhibits: list[Exhibit]


def _psnr(x: Tensor, truth: Tensor) -> float:
    error = float(((x.double() - truth.double()) ** 2).mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def _mae(x: Tensor, truth: Tensor) -> float:
    return float((x.double() - truth.double()).abs().mean()) * 255


METRICS = {"psnr-rgb": _psnr, "mae": _mae}


@pytest.fixture(scope="session")
def sample_run(examples: Path) -> SampleRun:
    pytest.importorskip("cv2")
    stats = pytest.importorskip("scipy.stats")
    rows, films = [], {}
    pictures: dict[tuple[str, str, str], tuple[Tensor, Tensor, Tensor, list[Tensor]]] = {}
    seconds = {"identity": 0.0, "nlm": 0.0, "bilateral": 0.0}
    for group, sigma in GROUPS.items():
        peers = {
            "identity": Identity(),
            "nlm": NonLocalMeans.for_sigma(sigma),
            "bilateral": Bilateral.for_sigma(sigma),
        }
        for name, (file, top, left) in CROPS.items():
            photo = read_image(examples / file).frames
            truth = quantise(photo[..., top : top + HEIGHT, left : left + WIDTH])
            degraded = noisy(sigma)(truth, generator(0, group, name))
            for model, peer in peers.items():
                started = perf_counter()
                restoration = peer.restore(Clip(degraded))
                seconds[model] += perf_counter() - started
                result = quantise(restoration.result.frames)
                film = [] if model == "identity" else [clip.frames[0] for clip in restoration.film()]
                row = {
                    "group": group,
                    "name": name,
                    "model": model,
                    "width": WIDTH,
                    "height": HEIGHT,
                    "frames": 1,
                }
                row["input"] = {key: metric(degraded, truth) for key, metric in METRICS.items()}
                row["output"] = {key: metric(result, truth) for key, metric in METRICS.items()}
                row["film"] = {
                    key: [metric(f, truth[0]) for f in film] for key, metric in METRICS.items() if film
                }
                rows.append(row)
                films[group, name, model] = row["film"]
                pictures[group, name, model] = (degraded[0], result[0], truth[0], film)
    models = [
        {"name": "nlm", "kind": "peer", "weights": None, "told": "the noise level", "source": "OpenCV"},
        {"name": "bilateral", "kind": "peer", "weights": None, "told": "the noise level", "source": "OpenCV"},
        {"name": "identity", "kind": "peer", "weights": None, "told": None, "source": "unfade"},
    ]
    report = {
        "unfade": "0.1.0",
        "benchmark": {
            "name": "photos",
            "title": "Example photos, colour noise",
            "citation": "Photos that ship with scikit-image.",
            "synthetic": False,
            "source": "three crops of the example photos",
            "averaging": "images",
            "conventions": [{"name": "rgb", "describe": "PSNR on RGB, error pooled; no border"}],
            "notes": ["White Gaussian noise, clipped and rounded to 8 bits."],
        },
        "settings": {"seed": 0, "limit": None, "steps": 1, "prompt": None},
        "models": models,
        "metrics": [
            {
                "name": "psnr-rgb",
                "label": "PSNR (RGB)",
                "unit": "dB",
                "higher_is_better": True,
                "convention": "RGB, error pooled",
                "source": "unfade",
                "weights": None,
                "licence": None,
            },
            {
                "name": "mae",
                "label": "Mean absolute error",
                "unit": "levels",
                "higher_is_better": False,
                "convention": "RGB, 0 to 255",
                "source": "unfade",
                "weights": None,
                "licence": None,
            },
        ],
        "absent": [{"name": "lpips", "why": "its weights are not on this machine"}],
        "rows": rows,
        "groups": [_group(rows, group, entry["name"]) for group in GROUPS for entry in models],
        "averages": [_average(rows, entry["name"]) for entry in models],
        "not_applicable": [],
        "curves": [
            _curve(films, group, model, key, stats)
            for group in GROUPS
            for model in ("nlm", "bilateral")
            for key in METRICS
        ],
        "anchors": [
            anchor for group in GROUPS for key in METRICS for anchor in _anchors(pictures, group, key)
        ],
        "published": [
            {
                "system": "CBM3D",
                "group": "noise-25",
                "metric": "psnr-rgb",
                "value": 30.71,
                "convention": "RGB",
                "paper": "FFDNet (Zhang et al. 2018)",
                "table": "V",
                "caveat": "",
                "differences": ["other pictures (CBSD68)", "noise neither clipped nor rounded"],
            }
        ],
    }
    timing = {
        "date": "2025-01-01T00:00:00+00:00",
        "hardware": {"cores": 2, "gpu": None},
        "models": [_timing(entry["name"], seconds[entry["name"]]) for entry in models],
    }
    exhibits = []
    for case in worst_and_best(report, ["nlm", "bilateral"]):
        degraded, restored, truth, film = pictures[case.group, case.name, case.model]
        values = (METRICS[case.metric](image, truth) for image in (degraded, restored))
        exhibits.append(
            Exhibit(
                case.title,
                case.group,
                case.name,
                case.model,
                case.metric,
                *values,
                degraded,
                restored,
                truth,
                film,
            )
        )
    return SampleRun(report, timing, exhibits)


def _mean(rows: list[dict[str, Any]], side: str) -> dict[str, float]:
    return {key: sum(row[side][key] for row in rows) / len(rows) for key in METRICS}


def _group(rows: list[dict[str, Any]], group: str, model: str) -> dict[str, Any]:
    own = [row for row in rows if (row["group"], row["model"]) == (group, model)]
    before, after = _mean(own, "input"), _mean(own, "output")
    return {
        "group": group,
        "model": model,
        "count": len(own),
        "input": before,
        "output": after,
        "gain": {key: after[key] - before[key] for key in METRICS},
        "rising": None
        if model == "identity"
        else sum(_rises(row["film"]["psnr-rgb"]) for row in own) / len(own),
    }


def _rises(film: list[float]) -> bool:
    return all(after > before for before, after in zip(film, film[1:], strict=False))


def _average(rows: list[dict[str, Any]], model: str) -> dict[str, Any]:
    own = [row for row in rows if row["model"] == model]
    both = {side: _mean(own, side) for side in ("input", "output")}
    # Groups of one size: both averages are the same.
    return {"model": model, "count": len(own), "by_images": both, "by_groups": both}


def _curve(films: dict[Any, Any], group: str, model: str, key: str, stats: Any) -> dict[str, Any]:
    values = torch.tensor([films[group, name, model][key] for name in CROPS], dtype=torch.float64)
    mean = values.mean(0).tolist()
    trend = stats.spearmanr(TAUS, mean)
    best = max(mean) if key == "psnr-rgb" else min(mean)
    kink = [mean.index(best)] if mean.index(best) != len(mean) - 1 else []
    return {
        "group": group,
        "model": model,
        "metric": key,
        "taus": TAUS,
        "mean": mean,
        "low": values.min(0).values.tolist(),
        "high": values.max(0).values.tolist(),
        "spearman": {"rho": float(trend.statistic), "p": float(trend.pvalue)},
        "kinks": kink,
    }


def _anchors(pictures: dict[Any, Any], group: str, key: str) -> list[dict[str, Any]]:
    pairs = [pictures[group, name, "identity"] for name in CROPS]
    frames = [
        [METRICS[key](torch.lerp(degraded, truth, tau), truth) for degraded, _, truth, _ in pairs]
        for tau in TAUS
    ]
    target = [sum(values) / len(values) for values in frames]
    base = {"group": group, "metric": key}
    return [
        {**base, "label": "input vs truth", "values": target[:1]},
        {**base, "label": "target trajectory vs truth", "values": target},
    ]


def _timing(model: str, seconds: float) -> dict[str, Any]:
    images = len(GROUPS) * len(CROPS)
    megapixels = images * HEIGHT * WIDTH / 1e6
    return {
        "name": model,
        "seconds": seconds,
        "megapixels": megapixels,
        "seconds_per_megapixel": seconds / megapixels,
        "images": images,
    }


@pytest.fixture
def report(sample_run: Any) -> dict[str, Any]:
    return deepcopy(sample_run.report)
