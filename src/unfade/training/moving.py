"""Clips of scenes in motion made of photos: a moving camera, layers at several depths, objects on ways of their own."""

import math
import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from unfade.degrade.resample import resize
from unfade.training.photos import Photos

# Pixels a canvas reaches beyond what is seen: the taps of the bicubic filter, and the edge of the reduced crop.
_MARGIN = 4


@dataclass(frozen=True, slots=True)
class PathLimits:
    """The fastest a path goes; most are drawn far slower (the cube of a uniform draw).

    Attributes:
        translation: pixels a frame.
        rotation: degrees a frame.
        zoom: relative change of scale a frame.
        shear: a frame.
        tilt: relative change of scale a frame at the middle of the frame's sides, by perspective.
        tremor: standard deviation of a hand's tremor, pixels; a tenth of it, in degrees, turns the frame.
    """

    translation: float = 6.0
    rotation: float = 1.0
    zoom: float = 0.02
    shear: float = 0.003
    tilt: float = 0.005
    tremor: float = 0.4


@dataclass(frozen=True, slots=True)
class MovingRule:
    """How moving clips are drawn.

    Attributes:
        frames: of a clip.
        size: side of a frame.
        camera, objects: the limits of their paths.
        still: share of paths that don't move at all.
        parallax: share of clips whose background has two or three layers.
        moving: share of clips with one to three moving objects.
        light: share of clips whose light changes.
        light_change: the most it changes, relative, from one end of the clip to the other.
        reduced: share of pictures taken from a reduced photo, for detail sharper than the camera's.
        reduction: the most a photo is reduced by; never so far that it no longer fills the frames.
    """

    frames: int = 7
    size: int = 128
    camera: PathLimits = PathLimits()
    objects: PathLimits = PathLimits(translation=10.0, rotation=2.0, tremor=0.2)
    still: float = 0.1
    parallax: float = 0.4
    moving: float = 0.5
    light: float = 0.15
    light_change: float = 0.06
    reduced: float = 0.6
    reduction: float = 3.0


@dataclass(frozen=True, slots=True)
class MotionPath:
    """Where each frame looks, as against the middle frame; all in float64, `[T]` (translations `[T, 2]`).

    Attributes:
        translation: across and down, pixels.
        angle: radians.
        zoom: natural logarithm of the scale.
        shear: share of a row's height that it is moved by.
        tilt: `[T, 2]` relative change of scale at the middle of the right and the lower side.
        size: side of a frame, which `tilt` refers to.
    """

    translation: Tensor
    angle: Tensor
    zoom: Tensor
    shear: Tensor
    tilt: Tensor
    size: int

    def slower(self, factor: float) -> "MotionPath":
        """The same path as seen in something farther away: what depends on the distance, times `factor`."""
        return replace(self, translation=self.translation * factor, zoom=self.zoom * factor)

    def homographies(self) -> Tensor:
        """`[T, 3, 3]` from pixels of the frame (across, down, 1), its centre at 0, to where they look."""
        one, none = torch.ones_like(self.angle), torch.zeros_like(self.angle)
        cos, sin = self.angle.cos() * self.zoom.exp(), self.angle.sin() * self.zoom.exp()
        across, down = self.translation.unbind(1)
        right, low = (self.tilt / (self.size / 2)).unbind(1)

        def matrix(*entries: Tensor) -> Tensor:
            return torch.stack(entries, dim=1).reshape(-1, 3, 3)

        turned = matrix(cos, -sin, across, sin, cos, down, none, none, one)
        sheared = matrix(one, self.shear, none, none, one, none, none, none, one)
        tilted = matrix(one, none, none, none, one, none, right, low, one)
        return turned @ sheared @ tilted

    def sights(self, centre: tuple[float, float]) -> Tensor:
        """Where every pixel of every frame looks, `[T, S, S, 2]` (across, down), if `centre` of the frame is 0."""
        steps = torch.arange(self.size, dtype=torch.float64)
        down, across = torch.meshgrid(steps - centre[1], steps - centre[0], indexing="ij")
        h = self.homographies()[:, None, None]
        x, y, w = (h[..., i, 0] * across + h[..., i, 1] * down + h[..., i, 2] for i in range(3))
        return torch.stack([x / w, y / w], dim=3)


def draw_path(limits: PathLimits, frames: int, size: int, still: float, dice: random.Random) -> MotionPath:
    """A smooth path that gains or loses speed and turns a little, at rest in the middle frame.

    Args:
        limits: the fastest it goes.
        frames: its length.
        size: side of a frame.
        still: share of paths that don't move at all.
        dice: of everything.
    """
    rested = dice.random() < still
    ramp = torch.linspace(0, 1, max(1, frames - 1), dtype=torch.float64)
    ramp = ramp * ramp * (3 - 2 * ramp)

    def paces() -> Tensor:
        """A share of the full speed for each step."""
        pace = 0.0 if rested else dice.random() ** 3
        slowed = pace * (1 - dice.random() * ramp)
        return slowed.flip(0) if dice.random() < 0.5 else slowed

    def positions(steps: Tensor) -> Tensor:
        reached = torch.cat([steps.new_zeros(1), steps.cumsum(0)])[:frames]
        return reached - reached[(frames - 1) // 2]

    def wandered(limit: float) -> Tensor:
        """Positions along one coordinate; half of all paths leave it alone."""
        way = dice.choice((-1, 0, 0, 1))
        return positions(paces() * limit * way)

    course = dice.uniform(0, 2 * math.pi) + dice.uniform(-1, 1) * ramp
    speed = limits.translation * paces()
    translation = torch.stack([positions(course.cos() * speed), positions(course.sin() * speed)], dim=1)
    shaky = 0.0 if rested else limits.tremor * dice.choice((0, dice.random()))
    shakes = torch.tensor([[dice.gauss(0, shaky) for _ in range(3)] for _ in range(frames)]).double()
    angle = wandered(math.radians(limits.rotation)) + shakes[:, 2] * math.radians(0.1)
    tilt = torch.stack([wandered(limits.tilt), wandered(limits.tilt)], dim=1)
    zoom, shear = wandered(math.log1p(limits.zoom)), wandered(limits.shear)
    return MotionPath(translation + shakes[:, :2], angle, zoom, shear, tilt, size)


@dataclass(frozen=True, slots=True)
class Scene:
    """A photo, reduced, and where in it the frames' upper left corner lies when nothing has moved.

    Attributes:
        photo: uint8 `[3, H, W]`.
        reduction: pixels of the photo for one of the scene.
        corner: row and column, in pixels of the scene.
        shift: across and down, the share of a pixel that frames are off its grid.
    """

    photo: Tensor
    reduction: float
    corner: tuple[int, int]
    shift: tuple[float, float]

    def canvas(self, top: int, left: int, height: int, width: int, device: torch.device) -> Tensor:
        """A part `[1, 3, h, w]` in [0, 1], given in pixels of the scene from `corner`; mirrored beyond the photo."""
        part = self.photo
        for axis, begin, count in ((1, self.corner[0] + top, height), (2, self.corner[1] + left, width)):
            start, length = round(begin * self.reduction), max(1, round(count * self.reduction))
            side = part.shape[axis]
            if 0 <= start and start + length <= side:
                part = part.narrow(axis, start, length)
            else:
                beyond = torch.arange(start, start + length) % (2 * side)
                part = part.index_select(axis, torch.minimum(beyond, 2 * side - 1 - beyond))
        return resize(part[None].to(device).float() / 255, height, width).clamp(0, 1)


def _box(sights: Tensor) -> tuple[int, int, int, int]:
    """(top, left, height, width) of all that is looked at, with a margin."""
    low, high = sights.amin((0, 1, 2)).floor().tolist(), sights.amax((0, 1, 2)).ceil().tolist()
    left, top = (int(edge) - _MARGIN for edge in low)
    right, bottom = (int(edge) + _MARGIN for edge in high)
    return top, left, bottom - top + 1, right - left + 1


def draw_scene(
    photos: Photos, rule: MovingRule, box: tuple[int, int, int, int], shifted: bool, dice: random.Random
) -> Scene:
    """A photo, turned one of eight ways, placed so that the box lies within it if it can.

    Args:
        photos: one of these.
        rule: how far it may be reduced.
        box: (top, left, height, width) that will be looked at.
        shifted: whether frames are off the photo's grid by a share of a pixel, so that none is sharper than others.
        dice: of everything.
    """
    photo, turn = photos[dice.randrange(len(photos))], dice.randrange(8)
    photo = photo.flip([axis for axis in (1, 2) if turn & axis])
    if turn & 4:
        photo = photo.transpose(1, 2)
    top, left, height, width = box
    most = min(rule.reduction, photo.shape[1] / height, photo.shape[2] / width)
    reduction = dice.uniform(1, most) if dice.random() < rule.reduced and most > 1 else 1.0
    rooms = photo.shape[1] / reduction - height, photo.shape[2] / reduction - width
    # A negative room is a photo smaller than the box, which then reaches beyond it on both sides.
    corner = [math.floor(dice.uniform(0, room)) - edge for room, edge in zip(rooms, (top, left), strict=True)]
    across, down = (dice.uniform(-0.5, 0.5) if shifted else 0.0 for _ in range(2))
    return Scene(photo, reduction, (corner[0], corner[1]), (across, down))


def _taken(canvas: Tensor, sights: Tensor) -> Tensor:
    """A canvas `[1, C, h, w]` sampled at its pixels `[T, H, W, 2]` (across, down): `[T, C, H, W]` in [0, 1]."""
    ends = sights.new_tensor([canvas.shape[3] - 1, canvas.shape[2] - 1])
    grid = (sights * (2 / ends) - 1).to(canvas)
    stacked = canvas.expand(len(sights), -1, -1, -1)
    return functional.grid_sample(stacked, grid, "bicubic", "zeros", align_corners=True).clamp(0, 1)


def _field(height: int, width: int, wavelength: float, generator: torch.Generator) -> Tensor:
    """Low-pass noise `[1, 1, h, w]` of about unit variance."""
    rows, columns = (math.ceil(side / wavelength) + 2 for side in (height, width))
    coarse = torch.randn(1, 1, rows, columns, generator=generator, device=generator.device)
    return functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


def filmed(
    scene: Scene, path: MotionPath, generator: torch.Generator, mask: tuple[float, float, float] | None = None
) -> Tensor:
    """The scene as a camera on the path sees it, each frame sampled once from the photo.

    Args:
        scene: a photo and a place in it.
        path: of the camera.
        generator: of the mask; its device is where frames are made.
        mask: wavelength and width of the edge in pixels, and threshold, of the depth mask; none is drawn without.

    Returns:
        `[T, 3, S, S]` in [0, 1], with the mask as a fourth channel where there is one.
    """
    middle = (path.size - 1) / 2
    sights = path.sights((middle, middle))
    sights += sights.new_tensor(scene.shift) + middle
    top, left, height, width = _box(sights)
    canvas = scene.canvas(top, left, height, width, generator.device)
    if mask is not None:
        wavelength, edge, threshold = mask
        field = _field(height, width, wavelength, generator)
        canvas = torch.cat([canvas, ((field - threshold) * (wavelength / edge) + 0.5).clamp(0, 1)], dim=1)
    return _taken(canvas, sights - sights.new_tensor([left, top]))


def _over(clip: Tensor, layer: Tensor) -> Tensor:
    """A layer `[T, 4, H, W]` (the last its opacity) drawn over a clip `[T, 3, H, W]`."""
    return torch.lerp(clip, layer[:, :3], layer[:, 3:])


def _background(photos: Photos, rule: MovingRule, dice: random.Random, generator: torch.Generator) -> Tensor:
    path = draw_path(rule.camera, rule.frames, rule.size, rule.still, dice)
    middle = (rule.size - 1) / 2
    sights = path.sights((middle, middle)) + middle
    box, moves = _box(sights), not bool((sights == sights[:1]).all())
    scene = draw_scene(photos, rule, box, moves, dice)
    # The nearest layer goes with the camera; the others, from back to front, are slower.
    factors = [1.0]
    if dice.random() < rule.parallax:
        for _ in range(dice.randint(1, 2)):
            factors.insert(0, factors[0] * dice.uniform(0.3, 0.85))
    clip = filmed(scene, path.slower(factors[0]), generator)
    for factor in factors[1:]:
        place = scene if dice.random() < 0.5 else draw_scene(photos, rule, box, moves, dice)
        mask = rule.size * dice.uniform(0.2, 0.8), dice.uniform(1, 3), dice.uniform(-0.5, 1)
        clip = _over(clip, filmed(place, path.slower(factor), generator, mask))
    return clip


def draw_blob(side: int, edge: float, generator: torch.Generator) -> Tensor:
    """The opacity `[1, 1, n, n]` of a random smooth shape, its edge some pixels soft; 0 at the canvas' border."""
    steps = torch.linspace(-1, 1, side, device=generator.device)
    far = steps[:, None] ** 2 + steps[None] ** 2
    border = (1 - torch.maximum(steps[:, None].abs(), steps[None].abs())) * side / 8
    shape = 0.9 - 2 * far + 0.4 * _field(side, side, side / 3, generator)
    return (shape * side / (6 * edge) + 0.5).clamp(0, 1) * border.clamp(0, 1)


def with_object(
    clip: Tensor, photos: Photos, rule: MovingRule, dice: random.Random, generator: torch.Generator
) -> Tensor:
    """The clip `[T, 3, S, S]` with one object drawn over it, cut from a photo, on a path of its own."""
    side = max(16, round(rule.size * dice.uniform(0.2, 0.7)))
    path = draw_path(rule.objects, rule.frames, rule.size, rule.still, dice)
    scene = draw_scene(photos, rule, (0, 0, side, side), False, dice)
    canvas = scene.canvas(0, 0, side, side, generator.device)
    canvas = torch.cat([canvas, draw_blob(side, dice.uniform(1, 3), generator)], dim=1)
    centre = dice.uniform(0, rule.size - 1), dice.uniform(0, rule.size - 1)
    sights = path.sights(centre) + (side - 1) / 2
    # Only the part of the frames that it ever touches is sampled.
    touched = ((sights > 0) & (sights < side - 1)).all(3).any(0)
    rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    part = clip[..., top:bottom, left:right]
    drawn = clip.clone()
    drawn[..., top:bottom, left:right] = _over(part, _taken(canvas, sights[:, top:bottom, left:right]))
    return drawn


def _lit(clip: Tensor, rule: MovingRule, dice: random.Random) -> Tensor:
    """The clip in a light that grows or fades smoothly, a little differently for each colour."""
    change = dice.uniform(-rule.light_change, rule.light_change)
    colours = clip.new_tensor([change * dice.uniform(0.8, 1) for _ in range(3)])
    phase, turns = dice.uniform(0, 2 * math.pi), dice.uniform(0.25, 0.75)
    times = torch.linspace(0, 2 * math.pi * turns, len(clip)).to(clip)
    gain = 1 + 0.5 * torch.sin(times + phase)[:, None] * colours
    return (clip * gain[..., None, None]).clamp(0, 1)


def moving_clip(photos: Photos, rule: MovingRule, dice: random.Random, generator: torch.Generator) -> Tensor:
    """A clip of a scene in motion made of photos.

    Args:
        photos: what scenes and objects are made of.
        rule: sizes, shares and limits.
        dice: of choices.
        generator: of the shapes of layers and objects; its device is where frames are made.

    Returns:
        `[T, 3, S, S]` in [0, 1], not rounded.
    """
    clip = _background(photos, rule, dice, generator)
    if dice.random() < rule.moving:
        for _ in range(dice.randint(1, 3)):
            clip = with_object(clip, photos, rule, dice, generator)
    return _lit(clip, rule, dice) if dice.random() < rule.light else clip
