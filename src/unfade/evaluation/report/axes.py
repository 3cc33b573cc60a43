"""A pair of axes as SVG text: ticks at round numbers, lines with gaps, everything coloured by the page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from unfade.evaluation.report.figures import short

Point = tuple[float, float]


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers within [low, high]: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high], powers alone where those would be many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if len(powers) > 4 else (1, 2, 5) if len(powers) < 4 else (1, 3)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Texts with just the decimals the step needs."""
    if len(ticks) < 2:
        return [short(tick) for tick in ticks]
    places = next(
        (n for n in range(12) if all(math.isclose(tick, round(tick, n), abs_tol=1e-12) for tick in ticks)), 12
    )
    return [f"{tick:.{places}f}".replace("-", "−") for tick in ticks]


@dataclass(frozen=True, slots=True)
class Axes:
    """A rectangle of the drawing and the values at its edges.

    Attributes:
        x, y: lowest and highest value; the lowest must be lower.
        width, height: of the drawing.
        logarithmic: whether x is.
        left, right, top, bottom: margins.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 420
    height: int = 270
    logarithmic: bool = False
    left: int = 48
    right: int = 14
    top: int = 12
    bottom: int = 40

    def place(self, x: float, y: float) -> Point:
        """A value's place in the drawing."""
        across, low, high = (x, *self.x)
        if self.logarithmic:
            across, low, high = math.log(x), math.log(low), math.log(high)
        share = (across - low) / (high - low)
        rise = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            self.left + share * (self.width - self.left - self.right),
            self.height - self.bottom - rise * (self.height - self.top - self.bottom),
        )

    def line(self, points: Sequence[Point | None]) -> str:
        """The `d` of a path through the points, with a gap at each None; a lone point gets a tiny dash."""
        parts, pen = [], "M"
        for index, point in enumerate(points):
            if point is None:
                pen = "M"
                continue
            x, y = self.place(*point)
            parts.append(f"{pen}{x:.1f} {y:.1f}")
            alone = pen == "M" and (index + 1 == len(points) or points[index + 1] is None)
            if alone:
                parts.append("h.01")
            pen = "L"
        return "".join(parts)

    def area(self, low: Sequence[Point], high: Sequence[Point]) -> str:
        """The `d` of the closed shape between two lines."""
        return self.line([*low, *reversed(high)]) + "Z" if low else ""

    def frame(self, x_label: str, y_label: str, x_ticks: Sequence[float]) -> str:
        """Grid, ticks and labels."""
        y_ticks = round_ticks(*self.y)
        parts = ['<g class="grid">']
        bottom, right = self.height - self.bottom, self.width - self.right
        for tick in y_ticks:
            parts.append(f'<path d="M{self.left} {self.place(self.x[0], tick)[1]:.1f}H{right}"/>')
        parts.append(f'</g><path class="axis" d="M{self.left} {bottom}H{right}"/><g class="ticks">')
        x_texts = [f"{tick:g}" for tick in x_ticks] if self.logarithmic else tick_texts(x_ticks)
        for tick, text in zip(x_ticks, x_texts, strict=True):
            x = self.place(tick, self.y[0])[0]
            parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{text}</text>')
        for tick, text in zip(y_ticks, tick_texts(y_ticks), strict=True):
            y = self.place(self.x[0], tick)[1]
            parts.append(f'<text x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        middle = (self.left + right) / 2
        parts.append(
            f'<text class="label" x="{middle:.0f}" y="{self.height - 5}" text-anchor="middle">'
            f"{escape(x_label)}</text>"
        )
        parts.append(
            f'<text class="label" transform="translate(12 {(self.top + bottom) / 2:.0f}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text></g>'
        )
        return "".join(parts)

    def drawing(self, description: str, *parts: str) -> str:
        """The whole SVG; `description` is what a screen reader says."""
        return (
            f'<svg class="plot" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(description)}">{"".join(parts)}</svg>'
        )


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """The values' range with some air; never empty."""
    low, high = min(values), max(values)
    air = share * (high - low) or max(abs(high) * 0.01, 1e-3)
    return low - air, high + air
