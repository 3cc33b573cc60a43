"""The table of benchmarks. Nothing but data; `benchmark(name)` looks one up."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from unfade.core import UsageError
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group, Layout
from unfade.evaluation.metrics.convention import FOUNDIR, RGB, VBRIDGE_RGB, VBRIDGE_Y, Y

_VBRIDGE = 'Zheng et al. 2026, V-Bridge, arXiv 2603.13089, table 2 ("external" sets)'
_ALL_FOUR = (FOUNDIR, VBRIDGE_RGB, VBRIDGE_Y)
_NOT_SAID = "the paper does not say which of its script's four numbers it prints; all are reported"

# (folder, images) of FoundIR's test set; ids 0001 to 1500 run through the folders.
_FOUNDIR = (
    ("01Blur", 150), ("02Blur_Noise", 50), ("03Blur_JPEG", 50), ("04Blur_Noise_JPEG", 50), ("05Noise", 100),
    ("06JPEG", 50), ("07Noise_JPEG", 50), ("08Haze", 200), ("09Lowlight_Haze", 100), ("10Rain", 100),
    ("11Raindrop", 100), ("12NightRain", 50), ("13Rain_Haze", 50), ("14Lowlight", 50), ("15Lowlight_Blur", 100),
    ("16Lowlight_Noise", 50), ("17Lowlight_JPEG", 50), ("18Lowlight_Blur_Noise", 50),
    ("19Lowlight_Blur_JPEG", 50), ("20Lowlight_Noise_JPEG", 50),
)  # fmt: skip


def _noises(count: int) -> tuple[Group, ...]:
    return tuple(Group(name=f"noise-{sigma}", make=f"noise-{sigma}", count=count) for sigma in (15, 25, 50))


def _jpegs(count: int) -> tuple[Group, ...]:
    return tuple(Group(name=f"jpeg-{q}", make=f"jpeg-{q}", count=count) for q in (10, 20, 30, 40))


def _enlargements(count: int) -> tuple[Group, ...]:
    return tuple(Group(name=f"x{scale}", make=f"x{scale}", scale=scale, count=count) for scale in (2, 3, 4))


def _clean(name: str, title: str, groups: tuple[Group, ...], citation: str, *notes: str) -> Benchmark:
    conventions = (Y, RGB) if groups[0].scale > 1 else (RGB, Y)
    return Benchmark(
        name=name, title=title, holds="clean photos", groups=groups, conventions=conventions,
        citation=citation, notes=notes,
    )  # fmt: skip


def _pairs(name: str, title: str, count: int | None, make: str, layout: Layout, *notes: str) -> Benchmark:
    return Benchmark(
        name=name, title=title, holds="photo pairs", groups=(Group(name=title, count=count, make=make),),
        layouts=(layout,), conventions=_ALL_FOUR, citation=_VBRIDGE, notes=(_NOT_SAID, *notes),
    )  # fmt: skip


def _vivid(name: str, title: str, count: int, *notes: str, truth: bool = True, aligned: int = 0) -> Benchmark:
    layout = Layout(truth="GT", degraded="LQ") if truth else Layout(degraded="LQ")
    group = Group(name=title, count=count, make="Blur_Noise_JPEG", strength="mild")
    return Benchmark(
        name=name, title=title, holds="clip pairs" if truth else "clips without truth", groups=(group,),
        layouts=(layout,), conventions=(RGB, Y), resized=True, short_side=1024, aligned=aligned,
        learned=("lpips", *_NO_REFERENCE) if truth else _NO_REFERENCE, citation=_VIVID,
        notes=(_AT_1024, _TRUTH_TOO, *notes) if truth else (_AT_1024, *notes),
    )  # fmt: skip


_INPUT_AND_TARGET = Layout(degraded="input", truth="target")
_VIVID = "Bai et al. 2025, Vivid-VR, arXiv 2508.14483, table 1"
_NO_REFERENCE = ("niqe", "musiq", "clip-iqa", "dover", "md-vqa")
_SR = "bicubic reduction with antialiasing (a = -0.5), 8 bits, sides cropped to multiples of the scale"
_CODEC = "4:2:0 chroma by libjpeg; tables made with 4:4:4 or another codec differ by a few tenths of a dB"
_AT_1024 = (
    "restorers are given the input at a short side of 1024, the longer side rounded down, as the authors ran theirs "
    "(not enlarged fourfold); bicubic with a = -0.5 where their code has -0.75"
)
_TRUTH_TOO = (
    "the paper does not say whether the truth or the result was resized; here it is the truth, the same way and then "
    "to 8 bits, so that all figures are of the very pixels that were restored: reducing a result would hide its errors"
)
_SHIFTED = (
    "a pixel of its inputs stands for the upper left one of a square of four by four, which enlarging takes for the "
    "middle, so results lie 1.5 pixels of the truth's own size too far down and right, 2.8 at a short side of 1024: "
    "before it is compared, each clip is shifted back by the whole pixels that fit best, up to 8 each way; the authors "
    "align pixels too, before PSNR, SSIM and LPIPS, and don't say how"
)
_CROPPED = "the authors aligned DOVE's, SeedVR's and SeedVR2's results, whose inference crops; here nothing is shifted"

_LISTED = (
    Benchmark(
        name="foundir",
        title="FoundIR test set",
        holds="photo pairs",
        groups=tuple(
            Group(name=folder[2:], folder=folder, count=count, make=folder[2:]) for folder, count in _FOUNDIR
        ),
        layouts=(
            Layout(degraded="{group}/LQ", truth="{group}/GT"),
            Layout(degraded="LQ/{group}", truth="GT/{group}"),
        ),
        conventions=_ALL_FOUR,
        averaging="groups",
        oriented=False,
        citation="Li et al. 2024, FoundIR, arXiv 2412.01427; V-Bridge (arXiv 2603.13089), table 1",
        notes=(
            "extensions of a pair may differ; pairs go by name, FoundIR's script goes by sorted position",
            "FoundIR averages over groups alike, V-Bridge's own rows over images alike: both are reported",
        ),
    ),
    _pairs(
        "dense-haze", "Dense-Haze", 33, "Haze",
        Layout(degraded="hazy", truth="GT", degraded_name=r"(\d+)_hazy", truth_name=r"(\d+)_GT"),
        "published as 33 pairs; the whole set has 55",
    ),
    _pairs(
        "nh-haze", "NH-Haze", None, "Haze",
        Layout(degraded_name=r"(\d+)_hazy", truth_name=r"(\d+)_GT"),
        "the paper does not give the number of pairs; the whole set has 55",
    ),
    _pairs("uhd-ll", "UHD-LL", 115, "Lowlight_Noise", Layout(degraded="input", truth="gt")),
    _pairs("uav-rain1k", "UAV-Rain1K", 220, "Raindrop", _INPUT_AND_TARGET),
    Benchmark(
        name="hq-nightrain",
        title="HQ-NightRain",
        holds="photo pairs",
        groups=(
            Group(name="RS", folder="RS", count=100, make="NightRain"),
            Group(name="RD", folder="RD", count=100, make="Raindrop+Lowlight"),
            Group(name="SD", folder="SD", count=100, make="Rain+Raindrop+Lowlight"),
        ),
        layouts=(Layout(degraded="{group}/input", truth="{group}/target"),),
        conventions=_ALL_FOUR,
        citation=_VBRIDGE,
        notes=(_NOT_SAID, "streaks (RS), drops (RD) and both (SD); 300 pairs in all, a hundred each is assumed"),
    ),
    _pairs("weatherbench-snow", "WeatherBench snow", 200, "snow", _INPUT_AND_TARGET),
    Benchmark(
        name="div2k-progression",
        title="DIV2K progression",
        holds="clean photos",
        groups=tuple(
            Group(name=f"{task}-{strength}", make=task, strength=strength, count=100)
            for task in ("resolution", "blur", "lowlight")
            for strength in ("mild", "strong")
        ),
        conventions=(RGB, Y),
        size=(1360, 768),
        citation="Progressive Image Restoration via Text-Conditioned Video Generation, arXiv 2512.02273, figure 2",
        notes=(
            "made from DIV2K's validation photos 0801 to 0900; the paper's ranges and split are not published, "
            "these are this project's",
        ),
    ),
    Benchmark(
        name="reloblur",
        title="ReLoBlur",
        holds="photo pairs",
        groups=(Group(name="ReLoBlur", count=395, make="local-blur"),),
        layouts=(Layout(degraded="blur", truth="sharp", masks="masks"),),
        conventions=(RGB, Y),
        masked=True,
        citation="Li et al. 2023, Real-world Deep Local Motion Deblurring, arXiv 2204.08179",
        notes=(
            "blur is local: the masked and mask-weighted figures are what moves",
            "beam-splitter pairs are not perfectly registered; the aligned PSNR of the authors is not computed",
        ),
    ),
    _vivid("spmcs", "SPMCS", 30, _SHIFTED, aligned=8),
    _vivid("udm10", "UDM10", 10, _CROPPED),
    _vivid("youhq40", "YouHQ40", 40, _CROPPED),
    _vivid("videolq", "VideoLQ", 50, truth=False),
    _vivid("ugc50", "UGC50", 50, truth=False),
    _vivid("aigc50", "AIGC50", 50, truth=False),
    _clean("set5", "Set5", _enlargements(5), "Bevilacqua et al. 2012", _SR),
    _clean("set14", "Set14", _enlargements(14), "Zeyde et al. 2010", _SR),
    _clean("bsd100", "BSD100", _enlargements(100), "Martin et al. 2001; Timofte et al. 2014", _SR),
    _clean("urban100", "Urban100", _enlargements(100), "Huang et al. 2015", _SR),
    _clean("cbsd68", "CBSD68", _noises(68), "Martin et al. 2001; Roth and Black 2009"),
    _clean("kodak24", "Kodak24", _noises(24), "Franzen 1999"),
    _clean("cbsd68-jpeg", "CBSD68, JPEG", _jpegs(68), "Martin et al. 2001", _CODEC),
    _clean("live1-jpeg", "LIVE1, JPEG", _jpegs(29), "Sheikh et al. 2005", _CODEC),
    Benchmark(
        name="everyday",
        title="Everyday damage on CBSD68",
        holds="clean photos",
        groups=tuple(
            Group(name=name, make=name, count=68)
            for name in ("motion-15", "defocus-3", "dark-0.2", "dark-0.1", "clean")
        ),
        citation="this project: a 15 px line blur, a 3 px disc, a fifth and a tenth of the light, nothing at all",
        notes=("a clean photo should come back unharmed: its gain is minus infinity by definition",),
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _LISTED}


def benchmark(name: str) -> Benchmark:
    """The benchmark of this name.

    Raises:
        UsageError: there is none; the message lists all.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {name!r}; there is {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def synthesized(original: Benchmark) -> Benchmark:
    """The same groups, conventions and averages, made from the user's own clean photos (or clips) at their own size."""
    notes = original.notes
    if original.short_side is not None:
        side = original.short_side
        notes = (f"the stand-in keeps its own size: not brought to a short side of {side}, not aligned",)
    return replace(
        original,
        holds="clip pairs" if original.footage else "clean photos",
        layouts=(Layout(),),
        groups=tuple(replace(group, folder="", count=None) for group in original.groups),
        oriented=True,
        synthetic=True,
        short_side=None,
        aligned=0,
        notes=(
            "SYNTHETIC: made from other photos with this project's degradations; not comparable with published numbers",
            *notes,
        ),
    )


def only(chosen: Benchmark, names: Iterable[str]) -> Benchmark:
    """The benchmark with some of its groups.

    Raises:
        UsageError: a group is unknown.
    """
    known: Sequence[str] = [group.name for group in chosen.groups]
    for name in names:
        if name not in known:
            raise UsageError(f"{chosen.name} has no group {name!r}; there is {', '.join(known)}")
    kept = tuple(group for group in chosen.groups if group.name in set(names))
    if len(kept) == len(chosen.groups):
        return chosen
    listed = ", ".join(group.name for group in kept)
    note = f"ONLY {len(kept)} of {len(chosen.groups)} groups: {listed}"
    return replace(chosen, groups=kept, partial=True, notes=(note, *chosen.notes))
