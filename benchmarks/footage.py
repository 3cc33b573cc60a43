"""What the temporal path of `tiny` gives over restoring footage frame by frame, and what it costs.

    python benchmarks/footage.py --data ../shared/data/clips --model tiny -o benchmarks/results/footage.json

Three clips, which are validation footage of the temporal path and in no training, are damaged in nine ways, with noise
and weather drawn anew for every frame, and restored twice: over time, and by the same weights with no neighbours. PSNR
is RGB, of 8-bit frames, averaged over them; the warping error follows the flow of the truth, whose own error is told
beside it, as no restoration should fall far below that. At a cut, plain, in the dark and behind haze, the frames beside
it must be no further from what they are in their own clip than they are frame by frame, where the light alone is
shared. Seconds are those of the restoration alone. Exit code 3 if the data is not there.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from measurement import REPOSITORY, Bar, has_amx, median, print_bars, print_table, write_results
from unfade.core import Plan, generator
from unfade.core.contracts import Dtype
from unfade.degrade import draw_composition, named
from unfade.degrade.classic import noisy, quantise
from unfade.degrade.light import LowLight
from unfade.degrade.noise import SensorNoise, read_variance
from unfade.degrade.over_time import degraded_over_time
from unfade.evaluation.metrics.convention import RGB
from unfade.evaluation.metrics.fidelity import psnr_by
from unfade.evaluation.metrics.footage import flicker, warping_error
from unfade.media.compression import VideoCodec, compressed
from unfade.media.video import probe_video, read_video
from unfade.restore.engine import PixelRestorer
from unfade.restore.load import load

FRAMES = 48
# The size whose frame rate is asked for: that of bikes.
RATED = (640, 272)


@dataclass(frozen=True, slots=True)
class Source:
    """A clip and by how much it is reduced.

    Attributes:
        name: stands in tables; that of the file without its suffix.
        reduced: whole number of pixels, along each side, that are averaged into one.
    """

    name: str
    reduced: int = 1

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.mp4"

    def images(self, folder: Path, frames: int) -> Iterator[Tensor]:
        """The first frames `[3, H, W]`, at 8 bits."""
        for frame in islice(read_video(self.path(folder)), frames):
            yield quantise(functional.avg_pool2d(frame.image, self.reduced))


SOURCES = (Source("carphone_pristine"), Source("bikes"), Source("bigbuckbunny", reduced=2))


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to a clip: light first, then noise, then compression.

    Attributes:
        name: stands in tables.
        sigma: of Gaussian noise on the 0 to 255 scale, 0 for none.
        codec, quality: as `compressed` takes them; None for no compression.
        dark: whether it was taken in low light by a noisy sensor.
        weather: a name in `unfade.degrade.named`, "" for none.
    """

    name: str
    sigma: float = 0
    codec: VideoCodec | None = None
    quality: float = 0
    dark: bool = False
    weather: str = ""

    @property
    def is_judged(self) -> bool:
        """Whether the bars are about it: noise and compression together."""
        return self.sigma > 0 and self.codec is not None

    def __call__(self, truth: Tensor, fps: Fraction, seed: int, name: str) -> Tensor:
        """The damaged clip `[T, 3, H, W]`, at 8 bits; `name` tells the dice of one clip from those of another."""
        damaged = torch.empty_like(truth)
        if self.weather:
            dice = generator(seed, "footage", name, self.name)
            drawn = draw_composition(named(self.weather), dice, (1, truth.shape[2], truth.shape[3]))
            truth, _ = degraded_over_time(truth, drawn, dice)
        for index, frame in enumerate(truth.split(1)):
            dice = generator(seed, "footage", name, self.name, index)
            if self.dark:
                frame = _in_low_light(frame, dice)
            damaged[index] = noisy(self.sigma)(frame, dice)[0] if self.sigma else quantise(frame)[0]
        return damaged if self.codec is None else quantise(compressed(damaged, self.codec, self.quality, fps))


DAMAGES = (
    Damage("noise-20 + H.264 crf 23", sigma=20, codec="h264", quality=23),
    Damage("noise-10 + H.264 crf 30", sigma=10, codec="h264", quality=30),
    Damage("noise-20", sigma=20),
    Damage("noise-40 + H.265 crf 28", sigma=40, codec="h265", quality=28),
    Damage("H.264 crf 36", codec="h264", quality=36),
    Damage("sensor noise + low light", dark=True),
    Damage("rain", weather="rain"),
    Damage("snow", weather="snow"),
    Damage("nothing"),
)
SPLICED = DAMAGES[0]
# Frames of each clip beside a cut, and what the light of both is like.
AT_CUT = 5
LIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "dark": lambda x: 0.12 * x,
    "haze": lambda x: 0.3 * x + 0.6,
}


def _in_low_light(frame: Tensor, dice: torch.Generator) -> Tensor:
    """`[1, 3, H, W]` at a quarter of the light, with the noise that the sensor then has."""
    none = torch.zeros(1)
    dark = LowLight(
        stops=torch.tensor([2.0]),
        falloff=torch.tensor([0.2]),
        balance=torch.tensor([[1.1, 1.0, 0.9]]),
        contrast=torch.tensor([1.2]),
        shot=none,
        read=none,
        field=torch.zeros_like(frame),
    )
    shot = torch.tensor([3e-3])
    noise = SensorNoise(shot, read_variance(shot, none), torch.randn(frame.shape, generator=dice))
    return noise(dark(frame))


def judged(x: Tensor, truth: Tensor) -> dict[str, float]:
    """A clip's figures at 8 bits; the warping error is in thousandths."""
    return {
        "psnr": psnr_by(RGB, x, truth),
        "warping_error": 1000 * warping_error(x, truth),
        "flicker": flicker(x, truth),
    }


class Footage:
    """Footage restored over time and frame by frame.

    Args:
        restorer: of both ways.
        dtype: of both.
        seed: of the noise.
    """

    def __init__(self, restorer: PixelRestorer, dtype: Dtype, seed: int) -> None:
        self.restorer = restorer
        self.plans = {"frame_by_frame": Plan(dtype=dtype, neighbours=0), "over_time": Plan(dtype=dtype)}
        self.seed = seed

    def restored(self, plan: Plan, damaged: Tensor) -> tuple[Tensor, float]:
        """The result at 8 bits and the seconds a frame took, once the network had met a frame of this size."""
        for _ in self.restorer.restore_stream(damaged[:2], None, plan):
            pass
        result = torch.empty_like(damaged)
        begun = time.perf_counter()
        for index, frame in enumerate(self.restorer.restore_stream(damaged, None, plan)):
            result[index] = frame
        seconds = (time.perf_counter() - begun) / len(damaged)
        return quantise(result), seconds

    def clip(
        self, name: str, truth: Tensor, fps: Fraction, damages: Sequence[Damage]
    ) -> list[dict[str, Any]]:
        """A row for each way of damaging a clip `[T, 3, H, W]`."""
        ideal = judged(truth, truth)
        rows: list[dict[str, Any]] = []
        for damage in damages:
            damaged = damage(truth, fps, self.seed, name)
            row: dict[str, Any] = {
                "name": name,
                "damage": damage.name,
                "width": truth.shape[3],
                "height": truth.shape[2],
                "frames": len(truth),
                "judged": damage.is_judged,
                "truth_warping_error": ideal["warping_error"],
                "truth_flicker": ideal["flicker"],
            }
            row |= {f"input_{figure}": value for figure, value in judged(damaged, truth).items()}
            for way, plan in self.plans.items():
                result, seconds = self.restored(plan, damaged)
                row |= {f"{way}_{figure}": value for figure, value in judged(result, truth).items()}
                row[f"{way}_seconds"] = seconds
            rows.append(row)
        return rows

    def cut(self, name: str, first: Tensor, second: Tensor, fps: Fraction) -> list[dict[str, Any]]:
        """How far the frames beside a cut are from the same frames of clips without one, in both ways.

        Args:
            name: of the splice.
            first, second: `[T, 3, H, W]` of one size; each is damaged apart, so that only restoring can mix them.
            fps: frames a second.
        """
        rows: list[dict[str, Any]] = []
        for light, change in LIGHTS.items():
            clips = [
                SPLICED(quantise(change(clip)), fps, self.seed, f"{name} {side}")
                for side, clip in enumerate((first, second))
            ]
            row: dict[str, Any] = {"name": name, "light": light}
            for way, plan in self.plans.items():
                spliced, _ = self.restored(plan, torch.cat(clips))
                before, after = (self.restored(plan, clip)[0] for clip in clips)
                beside = spliced[len(first) - 1 : len(first) + 1]
                apart = (beside - torch.stack((before[-1], after[0]))).abs().mean((1, 2, 3))
                row[way] = 255 * float(apart.max())
            rows.append(row)
        return rows


def centre(image: Tensor, height: int, width: int) -> Tensor:
    """The middle of `[..., H, W]`."""
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]


def bars(rows: Sequence[dict[str, Any]], cut: Sequence[dict[str, Any]], amx: bool) -> list[Bar]:
    """What is asked of footage.

    Under noise with compression each figure is the mean over the clips; those of warping error and flicker are means of
    the clips' own ratios, so that the clip that moves most doesn't decide alone. Other damage must not get worse.
    """
    found: list[Bar] = []
    for damage in dict.fromkeys(row["damage"] for row in rows):
        mine = [row for row in rows if row["damage"] == damage]
        gain = sum(row["over_time_psnr"] - row["frame_by_frame_psnr"] for row in mine) / len(mine)
        if not mine[0]["judged"]:
            found.append(Bar(f"{damage}: dB over frame by frame", gain, 0.0))
            continue
        found.append(Bar(f"{damage}: dB over frame by frame", gain, 0.5))
        for figure, most in (("warping_error", 0.8), ("flicker", 1.0)):
            shares = [row[f"over_time_{figure}"] / row[f"frame_by_frame_{figure}"] for row in mine]
            name = f"{damage}: {figure.replace('_', ' ')} over frame by frame's"
            found.append(Bar(name, sum(shares) / len(shares), most, True))
    for row in cut:
        name = f"cut from {row['name']}, {row['light']}: grey levels beyond frame by frame's"
        found.append(Bar(name, row["over_time"] - row["frame_by_frame"], 0.1, True))
    rated = [row["over_time_seconds"] for row in rows if (row["width"], row["height"]) == RATED]
    if rated:
        size = "x".join(map(str, RATED))
        found.append(Bar(f"{size}: frames a second", 1 / median(rated), 5.0, applies=amx))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/clips")
    parser.add_argument("--model", default="tiny", help="a catalog name or a .safetensors file")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each clip, from its beginning")
    parser.add_argument("--dtype", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "benchmarks/results/footage.json")
    asked = parser.parse_args()
    if asked.frames < 2:
        parser.error(f"--frames must be at least 2, not {asked.frames}")
    absent = [source.path(asked.data) for source in SOURCES if not source.path(asked.data).is_file()]
    if absent:
        print(f"Nothing was measured: there is no {absent[0]}; name the folder of the clips with --data.")
        return 3
    restorer = load(asked.model)
    if not isinstance(restorer, PixelRestorer):
        parser.error(f"--model must be tiny or a file of its kind, not {asked.model}")
    footage = Footage(restorer, asked.dtype, asked.seed)
    rows: list[dict[str, Any]] = []
    cut: list[dict[str, Any]] = []
    ends: list[tuple[Source, Tensor]] = []
    with torch.inference_mode():
        for source in SOURCES:
            # One clip at a time, as its truth, its damage and a result are held together.
            truth = torch.stack(list(source.images(asked.data, asked.frames)))
            rows += footage.clip(source.name, truth, probe_video(source.path(asked.data)).fps, DAMAGES)
            ends.append((source, truth[:AT_CUT].clone()))
            del truth
        for (one, first), (other, second) in permutations(ends, 2):
            size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
            fps = probe_video(one.path(asked.data)).fps
            cut += footage.cut(
                f"{one.name} to {other.name}", centre(first, *size), centre(second, *size), fps
            )
    checked = bars(rows, cut, has_amx())
    for figures in (("psnr",), ("warping_error",), ("flicker", "seconds")):
        columns = [name for name in rows[0] if name.endswith(figures)]
        print_table(
            ("clip", "damage", *columns),
            [(row["name"], row["damage"], *(row[column] for column in columns)) for row in rows],
        )
    print_table(tuple(cut[0]), [tuple(row.values()) for row in cut])
    print_bars(checked)
    write_results(
        asked.output,
        {
            "model": Path(asked.model).name,
            "weights": restorer.weights.sha256,
            "threads": torch.get_num_threads(),
            "clips": rows,
            "cut": cut,
        },
        checked,
    )
    print(f"written: {asked.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
