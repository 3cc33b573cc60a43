"""The last touches to generated footage: colours brought back, and what must not be invented kept from the input."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from unfade.restore.colour_fix import ColourFix
from unfade.restore.text_protection import FileMasks, Masks, protect
from unfade.restore.vividvr import VividSettings


def check_masks(masks: Path | Masks | None, size: tuple[int, int], frames: int) -> None:
    """Whether masks of files can be read and fit, before hours of work.

    Args:
        masks: their path, what gives them, or None.
        size: (height, width) of the restored frames.
        frames: of the footage.

    Raises:
        InputError: they don't.
    """
    if isinstance(masks, Path):
        with FileMasks(masks, *size, frames):
            pass


def finished(
    pairs: Iterable[tuple[Tensor, Tensor, bool]],
    settings: VividSettings,
    masks: Path | Masks | None,
    size: tuple[int, int],
    frames: int,
) -> Iterator[Tensor]:
    """Restored frames as they are shown; half a colour window of them is held.

    Args:
        pairs: restored frame and the input's in the same size, `[3, H, W]` in [0, 1], and whether a shot begins there.
        settings: which colours are brought back, over how many frames.
        masks: of where the input is to be kept: their path, what gives them, or None.
        size: (height, width) of the frames.
        frames: how many there are.

    Raises:
        InputError: masks can't be read or don't fit.
        ValueError: what gives them gave none.
    """
    fix = ColourFix(settings.colour, settings.colour_window)
    sources: deque[Tensor] = deque()
    with ExitStack() as stack:
        of = stack.enter_context(FileMasks(masks, *size, frames)) if isinstance(masks, Path) else masks

        def kept(fixed: list[Tensor]) -> Iterator[Tensor]:
            for frame in fixed:
                source = sources.popleft()
                yield frame if of is None else protect(frame, source, of)

        for restored, source, cut in pairs:
            sources.append(source)
            yield from kept(fix.push(restored, source, cut=cut))
        yield from kept(fix.flush())
