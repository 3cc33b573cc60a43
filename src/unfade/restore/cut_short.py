"""Footage that can't be read to its end: what it is told by, and a file that ends where its pictures do."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Self

import av
from av.error import FFmpegError

from unfade.core import InputError
from unfade.media.torn import cut_off
from unfade.media.video import VideoInfo
from unfade.media.video_writer import VideoWriter

# Sound is copied up to a time and no packet that begins there.
_BEFORE = Fraction(1, 10**9)


class CutShort(InputError):
    """What lies before the damage was restored, and nothing after it could be."""

    @staticmethod
    def after(count: int, why: str) -> "CutShort":
        """The sentence for a number of frames that could be read, and why there were no more."""
        frames = "1 frame" if count == 1 else f"{count} frames"
        return CutShort(
            f"{why}; the result ends there, after {frames} with their sound: mend it for the rest"
        )


def note_of_damage(info: VideoInfo) -> dict[str, str]:
    """What the notes of a result say of a source that is shorter than its container says; empty where it isn't."""
    return {"damaged": "the source was cut off, so its end may be missing"} if cut_off(info.path) else {}


class EndingWriter(VideoWriter):
    """A `VideoWriter` whose sound may end with the pictures, where the source's can't be trusted any further.

    Raises:
        InputError: besides, the sound can't be read to its end although the pictures could.
    """

    _ends = False
    _torn: FFmpegError | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def end_here(self) -> None:
        """No sound or subtitle is copied that begins after the last picture."""
        self._ends = True

    def _sound_packets(self) -> Iterator["av.Packet[Any]"]:
        try:
            yield from super()._sound_packets()
        except FFmpegError as error:
            self._torn = error

    def _copy_sound(self, until: Fraction | None) -> None:
        end = self._end * self.info.time_base - _BEFORE
        super()._copy_sound(end if until is None and self._ends else until)
        # Packets are read as they are copied, so what comes last may be torn only now.
        if until is None and self._torn is not None and not self._ends:
            raise InputError(
                f"{self.info.path} has damaged sound; convert or remove it first"
            ) from self._torn
