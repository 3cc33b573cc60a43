"""The last touches to generated footage: colours brought back, and what must not be invented kept from the input."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from unfade.restore.colour_fix import ColourFix
from unfade.restore.text_protection import FileMasks, protect
from unfade.restore.vividvr import VividSettings


def check_masks(path: Path | None, size: tuple[int, int], frames: int) -> None:
    """Whether masks can be read and fit, before hours of work.

    Args:
        path: of the masks, or None.
        size: (height, width) of the restored frames.
        frames: of the footage.

    Raises:
        InputError: they don't.
    """
    if path is not None:
        with FileMasks(path, *size, frames):
            pass


def finished(
    pairs: Iterable[tuple[Tensor, Tensor, bool]],
    settings: VividSettings,
    path: Path | None,
    size: tuple[int, int],
    frames: int,
) -> Iterator[Tensor]:
    """Restored frames as they are shown; half a colour window of them is held.

    Args:
        pairs: restored frame and the input's in the same size, `[3, H, W]` in [0, 1], and whether a shot begins there.
        settings: which colours are brought back, over how many frames.
        path: of masks where the input is to be kept, or None.
        size: (height, width) of the frames.
        frames: how many there are.

    Raises:
        InputError: masks can't be read or don't fit.
    """
    fix = ColourFix(settings.colour, settings.colour_window)
    sources: deque[Tensor] = deque()
    with ExitStack() as stack:
        masks = None if path is None else stack.enter_context(FileMasks(path, *size, frames))

        def kept(fixed: list[Tensor]) -> Iterator[Tensor]:
            for frame in fixed:
                source = sources.popleft()
                yield frame if masks is None else protect(frame, source, masks)

        for restored, source, cut in pairs:
            sources.append(source)
            yield from kept(fix.push(restored, source, cut=cut))
        yield from kept(fix.flush())
