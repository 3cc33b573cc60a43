"""Metrics that are networks: full-reference LPIPS and DISTS, no-reference MUSIQ, CLIP-IQA and NIQE.

They come from torchmetrics and pyiqa (`pip install ".[perceptual]"`); pyiqa is for non-commercial use only.
Nothing is ever downloaded: weights are taken from where the libraries keep them, torch's hub folder (`TORCH_HOME`
moves it), and a metric whose package or weights are missing is absent with a line that says what and where.
"""

import hashlib
import importlib
import importlib.util
import io
import pickle
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unfade.core import UsageError
from unfade.evaluation.metrics.metric import Absence, Metric, of_pairs, of_pictures

_POLYFORM = "pyiqa: PolyForm Noncommercial 1.0.0 and S-Lab 1.0, non-commercial use only"
_CLIP_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
_NIQE_BLOCK = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A network that judges.

    Attributes:
        name, label, higher_is_better, of, convention, paper, licence: as of `Metric`.
        modules: what must be importable, the library itself first.
        files: weights below torch's hub folder.
        digest: SHA-256 that the first file must have, where the library would fetch another one otherwise.
        build: from the files' paths to what judges batches of one picture.
        smallest: shortest side in pixels.
    """

    name: str
    label: str
    higher_is_better: bool
    of: Literal["pair", "picture"]
    convention: str
    paper: str
    licence: str
    modules: tuple[str, ...]
    files: tuple[str, ...]
    build: Callable[[tuple[Path, ...]], Any]
    digest: str | None = None
    smallest: int = 32


def _lpips(files: tuple[Path, ...]) -> Any:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


def _dists(files: tuple[Path, ...]) -> Any:
    from torchmetrics.functional.image.dists import DISTSNetwork

    return DISTSNetwork().eval()


def _pyiqa(name: str, *, path: bool) -> Callable[[tuple[Path, ...]], Any]:
    """One of pyiqa's metrics, told the path of its weights where it takes one."""

    def build(files: tuple[Path, ...]) -> Any:
        # Not an import statement: pyiqa is not among what this project is checked with.
        pyiqa = importlib.import_module("pyiqa")
        options = {"pretrained_model_path": str(files[0])} if path else {}
        return pyiqa.create_metric(name, device=torch.device("cpu"), **options)

    return build


LEARNED = {
    learned.name: learned
    for learned in (
        Learned(
            name="lpips",
            label="LPIPS",
            higher_is_better=False,
            of="pair",
            convention="AlexNet, version 0.1, RGB; frames averaged",
            paper="Zhang et al. 2018",
            licence="torchmetrics: Apache-2.0; LPIPS: BSD-2-Clause",
            modules=("torchmetrics", "torchvision"),
            files=("checkpoints/alexnet-owt-7be5be79.pth",),
            build=_lpips,
        ),
        Learned(
            name="dists",
            label="DISTS",
            higher_is_better=False,
            of="pair",
            convention="VGG-16, RGB, not resized; frames averaged",
            paper="Ding et al. 2020",
            licence="torchmetrics: Apache-2.0; DISTS: MIT",
            modules=("torchmetrics", "torchvision"),
            files=("checkpoints/vgg16-397923af.pth",),
            build=_dists,
        ),
        Learned(
            name="musiq",
            label="MUSIQ",
            higher_is_better=True,
            of="picture",
            convention="trained on KonIQ-10k, 0 to 100; frames averaged",
            paper="Ke et al. 2021",
            licence=_POLYFORM,
            modules=("pyiqa",),
            files=("pyiqa/musiq_koniq_ckpt-e95806b9.pth",),
            build=_pyiqa("musiq", path=True),
        ),
        Learned(
            name="clip-iqa",
            label="CLIP-IQA",
            higher_is_better=True,
            of="picture",
            convention="ResNet-50, five pairs of prompts as pyiqa has them, 0 to 1; frames averaged",
            paper="Wang et al. 2023",
            licence=_POLYFORM,
            modules=("pyiqa", "clip"),
            files=("clip/RN50.pt",),
            digest=_CLIP_RN50,
            build=_pyiqa("clipiqa", path=False),
        ),
        Learned(
            name="niqe",
            label="NIQE",
            higher_is_better=False,
            of="picture",
            convention="luma of YIQ, rounded, blocks of 96 pixels, at least two; frames averaged",
            paper="Mittal et al. 2013",
            licence=_POLYFORM,
            modules=("pyiqa",),
            files=("pyiqa/niqe_modelparameters.mat",),
            build=_pyiqa("niqe", path=True),
            smallest=_NIQE_BLOCK,
        ),
    )
}

# Looked up in October 2026. pyiqa 0.1.16 has neither. vsreval 0.1.0, the first release of its kind, has DOVER but pins
# torch < 2.7, numpy < 2 and another OpenCV than ours, so the two can't share an environment. PyPI's "dover" counts
# version numbers.
NEVER = {
    "dover": "no package that installs beside this one holds DOVER: score the restored videos with the authors' "
    "evaluate_a_set_of_videos.py and weights DOVER.pth (github.com/VQAssessment/DOVER, S-Lab licence)",
    "md-vqa": "no package holds MD-VQA: score the restored videos with the authors' test_video.py and one of its two "
    "weights (github.com/kunyou99/MD-VQA_cvpr2023)",
}


def learned_metric(name: str) -> Metric | Absence:
    """A network that judges, or why it can't be had here.

    Args:
        name: one of `LEARNED` or `NEVER`.

    Raises:
        UsageError: the name is unknown.
    """
    if name in NEVER:
        return Absence(name, NEVER[name])
    if name not in LEARNED:
        known = ", ".join([*LEARNED, *NEVER])
        raise UsageError(f"no learned metric is called {name!r}; choose one of {known}")
    hub = Path(torch.hub.get_dir())
    return _lacking(LEARNED[name], hub) or _loaded(name, hub)


def _lacking(learned: Learned, hub: Path) -> Absence | None:
    """What is missing, in one line."""
    reasons: list[str] = []
    modules = [module for module in learned.modules if importlib.util.find_spec(module) is None]
    if modules:
        reasons.append(f'needs {" and ".join(modules)} (pip install ".[perceptual]" in the clone of unfade)')
    missing = [hub / file for file in learned.files if not (hub / file).is_file()]
    if missing:
        names = " and ".join(file.name for file in missing)
        reasons.append(
            f"needs the weights {names}, which are not in {missing[0].parent} (TORCH_HOME moves it)"
        )
    return Absence(learned.name, "; ".join(reasons)) if reasons else None


@cache
def _loaded(name: str, hub: Path) -> Metric | Absence:
    """The metric with its network, once a process."""
    learned = LEARNED[name]
    files = tuple(hub / file for file in learned.files)
    digest = _sha256(files)
    if learned.digest not in (None, digest):
        return Absence(name, f"{files[0]} is damaged or another file: its SHA-256 should be {learned.digest}")
    for file in files:
        if file.suffix == ".pth" and not _holds_only_tensors(file):
            return Absence(name, f"{file} is damaged, or holds more than tensors and is unsafe to load")
    try:
        # pyiqa prints what it loads.
        with redirect_stdout(io.StringIO()):
            network = learned.build(files)
    except Exception as error:
        text = (str(error).splitlines() or [""])[0]
        return Absence(name, f"{learned.modules[0]} could not load it: {type(error).__name__}: {text}")
    of = of_pairs if learned.of == "pair" else of_pictures
    return Metric(
        name=name,
        label=learned.label,
        unit="",
        higher_is_better=learned.higher_is_better,
        of=learned.of,
        convention=learned.convention,
        source=f"{_versions(learned)}; {learned.paper}",
        measure=of(_judge(learned, network), learned.smallest),
        weights=digest[:12],
        licence=learned.licence,
        cheap=False,
    )


def _holds_only_tensors(file: Path) -> bool:
    try:
        torch.load(file, map_location="meta", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        return False
    return True


def _judge(learned: Learned, network: Any) -> Callable[..., float | None]:
    def judge(*pictures: Tensor) -> float | None:
        height, width = pictures[0].shape[-2:]
        if learned.name == "niqe" and (height // _NIQE_BLOCK) * (width // _NIQE_BLOCK) < 2:
            return None
        with torch.inference_mode():
            batches = [picture[None].to(torch.float32).clamp(0, 1) for picture in pictures]
            return float(network.to(batches[0].device)(*batches))

    return judge


def _versions(learned: Learned) -> str:
    found: list[str] = []
    for module in learned.modules:
        try:
            found.append(f"{module} {version(module)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _sha256(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
