"""Sizes as they are typed."""

import typer


def size_of(text: str, option: str) -> tuple[int, int]:
    """(height, width) of "1024" or "1360x768", which is width and height.

    Args:
        text: as typed.
        option: that it was typed for.

    Raises:
        typer.BadParameter: it is neither.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise typer.BadParameter(
            f"{text!r} is neither a side such as 1024 nor a width and a height such as 1360x768",
            param_hint=option,
        )
    return int(sides[-1]), int(sides[0])
