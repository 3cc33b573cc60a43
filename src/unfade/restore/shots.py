"""What concerns the light of footage: decided for a shot, never for a frame alone, and anew after a hard cut."""

from torch import Tensor

from unfade.media.cuts import is_cut

# Frames after which the weight of what was seen has fallen to 1 / e: half a second of most footage. Fewer follow
# every passing car, more lag behind a room whose lamp is switched on.
MEMORY = 12


class Shot:
    """The causal exponential average of thumbnails since the last hard cut.

    The first frames of a shot are averaged evenly, so its first frame stands for itself, and nothing of one
    shot reaches the next.

    Args:
        memory: frames after which a frame's weight has fallen to 1 / e; 1 to answer each frame with itself.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        if memory < 1:
            raise ValueError(f"a shot is remembered for at least 1 frame, not {memory}")
        self.num_cuts = 0
        self._memory = memory
        self._seen = 0
        self._last: Tensor | None = None
        self._average: Tensor | None = None
        self._others: dict[str, Tensor] = {}

    def add(self, thumbnail: Tensor) -> Tensor:
        """What the shot looks like up to and with this frame, `[B, 3, h, w]` as the thumbnail itself."""
        if self._last is not None and is_cut(self._last, thumbnail):
            self.num_cuts += 1
            self._seen = 0
        self._last = thumbnail
        self._seen += 1
        self._average = self._followed(self._average, thumbnail)
        return self._average

    def average(self, name: str, value: Tensor) -> Tensor:
        """The same average of something else known of the frame that was added last, asked once a frame and name."""
        self._others[name] = self._followed(self._others.get(name), value)
        return self._others[name]

    def _followed(self, average: Tensor | None, value: Tensor) -> Tensor:
        if self._seen == 1 or average is None:
            return value
        return average.lerp(value, max(1 / self._seen, 1 / self._memory))
