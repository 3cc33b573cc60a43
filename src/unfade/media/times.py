"""Times for footage whose container knows the order in which pictures are decoded, and not when they are shown."""

import re
from heapq import heappop, heappush

import av
from av.container import InputContainer

# FFmpeg works the times of other codecs' pictures out itself.
_REORDERED = ("h264", "hevc", "vvc")
# What encoders write of themselves when they put two pictures into one packet and an empty one after it.
_PACKED = re.compile(rb"DivX\d+(?:b|Build)\d+p")


def has_no_times(container: InputContainer, stream: av.VideoStream) -> bool:
    """Whether times that the demuxer gives are not those at which pictures are shown.

    AVI counts packets. Where pictures are shown in another order than they are decoded in, as B-frames are, FFmpeg
    guesses right for the codecs AVI was made for, but not for H.264 and its successors, and not for "packed" MPEG-4,
    whose B-frames lie in the packets of other pictures.

    Args:
        container: at its beginning; a packet is read from it.
        stream: of the pictures.
    """
    if container.format.name != "avi":
        return False
    context = stream.codec_context
    if context.name in _REORDERED:
        return bool(context.has_b_frames)
    if context.name != "mpeg4":
        return False
    first = next((bytes(packet) for packet in container.demux(stream) if packet.size), b"")
    return _PACKED.search((context.extradata or b"") + first) is not None


class Counted:
    """Gives pictures, in the order they are shown, the times of their packets in the order of time.

    As many packets as pictures, of any rate and with gaps between them: this keeps all times and mends their order.

    Args:
        step: of a picture for which no packet has a time, after the one before, in ticks.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._heard: list[int] = []
        self._last: int | None = None

    def hear(self, packet: "av.Packet[av.VideoStream]") -> None:
        """A packet that was given to the decoder."""
        when = packet.dts if packet.pts is None else packet.pts
        if packet.size and when is not None:
            heappush(self._heard, when)

    def next(self) -> int:
        """When the next picture is shown, in ticks; always later than the one before."""
        while self._heard:
            when = heappop(self._heard)
            if self._last is None or when > self._last:
                self._last = when
                return when
        self._last = 0 if self._last is None else self._last + self._step
        return self._last
