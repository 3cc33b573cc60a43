"""A figure in its three lives: a float, a value that JSON knows, a text that people read."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

MISSING = "–"
_DIGITS = 10


def json_safe(value: Any) -> Any:
    """The same structure for JSON: infinities as the texts "inf" and "-inf", NaN as None, tuples as lists.

    Floats keep ten significant digits, enough for every metric and few enough that the order in which a sum was
    taken does not show.
    """
    match value:
        case float() if math.isnan(value):
            return None
        case float() if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        case float():
            return float(f"{value:.{_DIGITS}g}")
        case Mapping():
            return {str(key): json_safe(item) for key, item in value.items()}
        case list() | tuple():
            return [json_safe(item) for item in value]
        case _:
            return value


def number(value: Any) -> float | None:
    """A figure as a float again; None where it is undefined or no figure.

    Takes what `json_safe` gives as well as plain floats.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return {"inf": math.inf, "-inf": -math.inf}.get(value)
    return None if math.isnan(value) else float(value)


def finite(values: Iterable[Any]) -> list[float]:
    """Those of the values that are finite figures."""
    return [item for value in values if (item := number(value)) is not None and math.isfinite(item)]


def difference(after: float | None, before: float | None) -> float | None:
    """`after - before`; 0 where both are the same infinity, None where one is undefined."""
    if after is None or before is None:
        return None
    return 0.0 if after == before else after - before


def decimals(unit: str, values: Iterable[Any]) -> int:
    """Decimal places of a metric: 2 for decibels and large figures, 4 for those around 1."""
    largest = max((abs(value) for value in finite(values)), default=1.0)
    return 2 if unit == "dB" or largest >= 5 else 4


def fixed(value: Any, places: int, signed: bool = False) -> str:
    """A figure with a fixed number of decimals and a true minus sign; a dash where it is undefined."""
    figure = number(value)
    if figure is None:
        return MISSING
    sign = "−" if figure < 0 else "+" if signed and figure > 0 else ""
    if math.isinf(figure):
        return f"{sign}∞"
    digits = f"{abs(figure):.{places}f}"
    if float(digits) == 0:
        sign = ""
    return sign + digits


def short(value: Any) -> str:
    """A figure with three significant digits, for times and axes."""
    figure = number(value)
    if figure is None:
        return MISSING
    if math.isinf(figure):
        return "∞" if figure > 0 else "−∞"
    if figure == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(figure))))
    digits = f"{abs(figure):,.{places}f}".replace(",", "\u202f") if places < 8 else f"{abs(figure):.1e}"
    return ("−" if figure < 0 else "") + digits


def probability(value: Any) -> str:
    """A p-value as papers write it: "p = 0.012", "p < 0.001"."""
    figure = number(value)
    if figure is None:
        return "p unknown"
    return "p < 0.001" if figure < 0.001 else f"p = {figure:.3f}"
