"""One shot of footage through Vivid-VR: encoded, denoised and decoded window by window, every piece kept when done."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from unfade.backbones.cogvideox_denoiser import padded_in_front
from unfade.conditioning.control_denoiser import ControlCondition
from unfade.core import Condition, Denoiser, UnfadeError, generator
from unfade.diffusion.guidance import Contrast, dynamic_scale, faithful, guided
from unfade.diffusion.sizes import Fit
from unfade.diffusion.tiled import tiled_by
from unfade.diffusion.v_schedule import VSchedule, VStepper
from unfade.diffusion.windows import Timeline, Window, by_window
from unfade.media.resize import resized
from unfade.restore.chunks import Chunks, as_levels, from_levels
from unfade.restore.vividvr import VividSettings
from unfade.restore.walker import Walker

# Gives a frame `[3, H, W]` of the shot by its number.
FrameOf = Callable[[int], Tensor]
Seen = Callable[[int, FrameOf], None]
# Texts of a window: the positive condition and, with guidance, the negative one, for its degraded latents.
Tell = Callable[[int, Tensor], tuple[ControlCondition, ControlCondition | None]]


class ShotWalk:
    """Restores one shot. Whatever is in the chunks already is not done again.

    All noise is of the CPU and of a place on the canvas, so neither windows nor tiles, devices or interruptions change
    it. A window's states lie with the window that owns them; each holds as much memory as one window.

    Args:
        model: what restores.
        settings: how.
        timeline: windows of the shot.
        size: (height, width) of the result.
        chunks: what is done.
        seed: of all draws, with `name`.
        name: of the shot, unlike any other's.
        snapshots: after which steps (1 to all) the predicted clean clip is kept for `film`.
        tell: told how much work is done, in evaluations of the model.
        seen: told of each window whose frames are at hand, by its number, with what gives them in the size of the
            result.
    """

    def __init__(
        self,
        model: Walker,
        settings: VividSettings,
        timeline: Timeline,
        size: tuple[int, int],
        chunks: Chunks,
        seed: int,
        name: str,
        snapshots: tuple[int, ...] = (),
        tell: Callable[[int], None] = lambda parts: None,
        seen: Seen = lambda index, frame_of: None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.timeline = timeline
        self.fit: Fit = settings.fit(model.config, *size)
        self.chunks = chunks
        self.seed = seed
        self.name = name
        self.snapshots = snapshots
        self._tell = tell
        self._seen = seen
        self.schedule = VSchedule(settings.steps, settings.sampler, model.config.scheduler)
        self._owners = {
            window.slots[number]: (index, place)
            for index, window in enumerate(timeline.windows)
            for place, number in enumerate(window.owned)
        }

    def encode(self, frames: Iterable[Tensor]) -> None:
        """The degraded footage's latents, of all frames of the shot `[3, H, W]` in [0, 1], in their order.

        No more frames than a window's are held, in half precision.
        """
        held: deque[Tensor] = deque()
        windows = self.timeline.windows
        if all(self.chunks.has(self._low(index)) for index in range(len(windows))):
            return
        first = index = 0
        for number, frame in enumerate(frames):
            held.append(frame.half())
            while index < len(windows) and number + 1 == windows[index].stop:
                if not self.chunks.has(self._low(index)):

                    def frame_of(number: int, first: int = first) -> Tensor:
                        return self._resized(held[number - first])

                    self._seen(index, frame_of)
                    self._encode(index, frame_of)
                index += 1
                while index < len(windows) and first < windows[index].start:
                    held.popleft()
                    first += 1
        if index < len(windows):
            raise ValueError(f"{self.name} has fewer frames than were promised")

    def _encode(self, index: int, frame_of: FrameOf) -> None:
        window = self.timeline.windows[index]
        low = self.model.vae.encode_frames(
            (self.fit.enter(frame_of(number)) for number in _numbers(window)),
            generator(self.seed, self.name, "posterior", index) if self.settings.sampled else None,
        )
        self.chunks.put(self._low(index), {"low": padded_in_front(low, len(window.slots) - low.shape[2])})

    def _resized(self, frame: Tensor) -> Tensor:
        return resized(frame.float(), self.fit.height, self.fit.width)

    def low(self, index: int) -> Tensor:
        """A window's degraded latents, `[1, z, k, h, w]`."""
        found = self.chunks.get(self._low(index))
        if found is None:
            raise ValueError(f"window {index} of {self.name} is not encoded yet")
        return found["low"]

    def denoise(self, told: Tell, stop: int | None = None) -> None:
        """All steps, all windows after each other in every one of them.

        Args:
            told: gives what a window is told.
            stop: after which step to stop; None for the last.

        Raises:
            UnfadeError: the model answered with something that isn't a number.
        """
        windows, stepper = self.timeline.windows, self.schedule.stepper()
        for index in range(len(windows)):
            if not self.chunks.has(self._state(index)):
                self.chunks.put(self._state(index), {"state": self._noise(windows[index])})
        denoiser = self._wrapped()
        steps = [self._step_of(index) for index in range(len(windows))]
        for step in range(min(steps), len(stepper.times) if stop is None else stop):
            if all(one == step for one in steps):
                self._predict(step, denoiser, told, stepper)
            for index in range(len(windows)):
                if steps[index] == step:
                    self._advance(step, index, stepper)
                    steps[index] += 1

    def _predict(
        self,
        step: int,
        denoiser: Denoiser,
        told: Tell,
        stepper: VStepper,
    ) -> None:
        def condition(index: int) -> Condition:
            positive, negative = told(index, self.low(index))
            return Contrast(positive, negative) if negative is not None else positive

        def done(index: int) -> bool:
            return self.chunks.has(self._answer(step, index))

        time = float(stepper.times[step])
        for index, v in by_window(denoiser, self.timeline.windows, self._read, time, condition, done):
            if not bool(torch.isfinite(v).all()):
                raise UnfadeError(
                    f"the model's answer is not a number in step {step + 1}; use --dtype fp32, or less guidance"
                )
            self.chunks.put(self._answer(step, index), {"v": v.float()})

    def _advance(self, step: int, index: int, stepper: VStepper) -> None:
        window, kept = self.timeline.windows[index], self.chunks.get(self._state(index))
        answer = self.chunks.get(self._answer(step, index))
        if kept is None or answer is None:
            raise ValueError(f"window {index} of {self.name} has lost its state")
        states: list[Tensor] = []
        cleans: list[Tensor] = []
        for place, number in enumerate(window.owned):
            part = slice(place, place + 1)
            state, clean = stepper(
                step,
                answer["v"][:, :, part],
                kept["state"][:, :, part],
                kept["clean"][:, :, part] if "clean" in kept else None,
                generator(self.seed, self.name, "step", step, window.slots[number]),
            )
            states.append(state)
            cleans.append(clean)
        clean = torch.cat(cleans, dim=2)
        if step + 1 in self.snapshots:
            self.chunks.put(self._snapshot(step + 1, index), {"state": clean})
        self.chunks.put(
            self._state(index),
            {"state": torch.cat(states, dim=2), "clean": clean, "step": torch.tensor(step + 1)},
        )
        self.chunks.drop(self._answer(step, index))

    def level(self) -> int:
        """The step that all windows have taken; those behind are brought there with answers the model gave already."""
        windows = range(len(self.timeline.windows))
        steps = [self._step_of(index) for index in windows]
        lowest = min(steps)
        if max(steps) == lowest:
            return lowest
        stepper = self.schedule.stepper()
        for index in windows:
            if steps[index] == lowest:
                self._advance(lowest, index, stepper)
        return lowest + 1

    def decode(
        self, index: int, step: int | None = None, first: int = 0, last: int | None = None
    ) -> Iterator[Tensor]:
        """The frames a window answers for, `[3, height, width]` in [0, 1]; what they are made of is kept.

        Args:
            index: of the window.
            step: of a snapshot, or the one that all windows have taken, for the clean clip predicted there; the end by
                default.
            first, last: which of them, `last` excluded.
        """
        windows, parts = self.timeline.windows, self.settings.crossfade + 1
        window, frames = windows[index], self._piece(index, step, self._frames)["frames"]
        edges: dict[int, Tensor] = {}
        for number in range(window.keep_start, window.keep_stop)[first:last]:
            frame = from_levels(frames[number - window.keep_start])
            for other in (index - 1, index + 1):
                if not 0 <= other < len(windows) or number not in (theirs := windows[other].decoded):
                    continue
                # Frames around a cut, of which the window beside has a say in each.
                earlier = other < index
                if other not in edges:
                    edges[other] = self._piece(other, step, self._edges)["after" if earlier else "before"]
                place = number - (window.keep_start if earlier else theirs.start)
                share = theirs.stop - number if earlier else place + 1
                frame = torch.lerp(frame, from_levels(edges[other][place]), share / parts)
            yield frame

    def _piece(
        self, index: int, step: int | None, name: Callable[[int, int | None], str]
    ) -> dict[str, Tensor]:
        """Something that is kept of a window's frames, which are decoded if need be."""
        self.keep(index, step)
        kept = self.chunks.get(name(index, step))
        if kept is None:
            raise ValueError(f"window {index} of {self.name} has lost its frames")
        return kept

    def keep(self, index: int, step: int | None = None) -> None:
        """Has a window's frames decoded and kept, and beside them those that other windows fade into."""
        if self.has(index, step):
            return
        window = self.timeline.windows[index]
        made = torch.stack([as_levels(frame) for frame in self._decoded(window, step)])
        before, frames, after = made.split([window.lead, len(made) - window.lead - window.tail, window.tail])
        if window.lead or window.tail:
            self.chunks.put(self._edges(index, step), {"before": before, "after": after})
        self.chunks.put(self._frames(index, step), {"frames": frames})

    def _decoded(self, window: Window, step: int | None) -> Iterator[Tensor]:
        latents = self._read(window.slots, step)[:, :, self._front(window) :]
        number = window.start
        for chunk in self.model.vae.decode(latents):
            for frame in chunk[0].transpose(0, 1):
                if number in window.decoded:
                    yield self.fit.leave(frame).cpu()
                number += 1

    def has(self, index: int, step: int | None = None) -> bool:
        """Whether its frames are kept, so that they need the model no more."""
        return self.chunks.has(self._frames(index, step))

    def has_snapshot(self, step: int) -> bool:
        """Whether the predicted clean clip of a step is there, of all windows."""
        return all(self.chunks.has(self._snapshot(step, i)) for i in range(len(self.timeline.windows)))

    @property
    def decoded(self) -> bool:
        """Whether all frames are done, so that nothing else is needed any more."""
        return all(self.has(index) for index in range(len(self.timeline.windows)))

    def settle(self) -> None:
        """Decodes what isn't yet, and drops what only that needed."""
        windows = range(len(self.timeline.windows))
        for index in windows:
            self.keep(index)
        for index in windows:
            for name in (self._low(index), self._state(index)):
                self.chunks.drop(name)

    def _wrapped(self) -> Denoiser:
        settings, config = self.settings, self.model.config
        signal = self.schedule.signal()

        def counted(x: Tensor, t: float, condition: Condition) -> Tensor:
            answer = self.model.denoiser(x, t, condition).float()
            self._tell(1)
            return answer

        made: Denoiser = counted
        if settings.guidance > 1:
            at = dynamic_scale(settings.guidance, settings.steps) if settings.dynamic else None
            made = guided(counted, settings.guidance, at=at)
        if settings.pull is not None:
            made = faithful(made, settings.pull, lambda t: float(signal[int(t)]), _low_of)
        return tiled_by(made, lambda length: settings.along(config, length))

    def _read(self, slots: Iterable[int], step: int | None = None) -> Tensor:
        found: dict[int, Tensor] = {}
        parts: list[Tensor] = []
        for slot in slots:
            index, place = self._owners[slot]
            if index not in found:
                found[index] = self._kept(index, step)
            parts.append(found[index][:, :, place : place + 1])
        return torch.cat(parts, dim=2)

    def _kept(self, index: int, step: int | None) -> Tensor:
        """What a window owns: its state, or the clean latents predicted in a step."""
        kept = None if step is None else self.chunks.get(self._snapshot(step, index))
        if kept is not None:
            return kept["state"]
        kept = self.chunks.get(self._state(index))
        if kept is None or (step is not None and int(kept.get("step", -1)) != step):
            raise ValueError(f"window {index} of {self.name} has no state" + f" of step {step}" * bool(step))
        return kept["state"] if step is None else kept["clean"]

    def _noise(self, window: Window) -> Tensor:
        config = self.model.config
        rows, columns = self.fit.canvas_height // config.stride, self.fit.canvas_width // config.stride
        shape = (1, config.latent_channels, 1, rows, columns)
        slots = [window.slots[number] for number in window.owned]
        return torch.cat(
            [torch.randn(shape, generator=generator(self.seed, self.name, "start", slot)) for slot in slots],
            dim=2,
        )

    def steps_done(self) -> int:
        """Of all windows together; of those decoded, all."""
        windows = range(len(self.timeline.windows))
        whole = self.settings.steps
        return sum(whole if self.has(index) else self._step_of(index) for index in windows)

    def _step_of(self, index: int) -> int:
        kept = self.chunks.get(self._state(index)) or {}
        return int(kept["step"]) if "step" in kept else 0

    def _front(self, window: Window) -> int:
        return len(window.slots) - ((window.frames - 1) // self.model.config.temporal_stride + 1)

    def _frames(self, index: int, step: int | None = None) -> str:
        return f"{self.name}/frames-{index:05d}" + ("" if step is None else f"-{step:04d}")

    def _edges(self, index: int, step: int | None = None) -> str:
        return self._frames(index, step).replace("/frames-", "/edges-")

    def _low(self, index: int) -> str:
        return f"{self.name}/low-{index:05d}"

    def _state(self, index: int) -> str:
        return f"{self.name}/state-{index:05d}"

    def _answer(self, step: int, index: int) -> str:
        return f"{self.name}/v-{step:04d}-{index:05d}"

    def _snapshot(self, step: int, index: int) -> str:
        return f"{self.name}/clean-{step:04d}-{index:05d}"


def _numbers(window: Window) -> list[int]:
    """The window's frames, the last one as often as it takes."""
    return [*range(window.start, window.stop), *[window.stop - 1] * window.padding]


def _low_of(condition: Condition) -> Tensor:
    told = condition.positive if isinstance(condition, Contrast) else condition
    if not isinstance(told, ControlCondition):
        raise TypeError(f"fidelity needs a ControlCondition, not {type(told).__name__}")
    return told.low
