"""Videos of moving shapes, drawn from a seed, with exact masks and the facts that sentences are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.shapes.paths import Path, PathSpec, draw_path

#: sRGB of every colour name; far apart, so that JPEG at quality 95 cannot mix them up
COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 80, 240),
    "yellow": (240, 220, 40),
    "white": (245, 245, 245),
    "magenta": (230, 50, 220),
}
FORMS = ("circle", "square", "triangle", "cross")
#: an object that shows fewer pixels than this in a frame counts as absent there
MIN_PIXELS = 12
#: share of an object's own pixels that must show for its centroid to be taken as its position
FULL_VIEW = 0.95
_ATTEMPTS = 500


@dataclass(frozen=True)
class Preset:
    """What may happen in a video. Lengths are fractions of the shorter side; speeds are such lengths per frame.

    Args:
        colours: names out of ``COLOURS``.
        forms: names out of ``FORMS``.
        radii: smallest and largest radius of each named size.
        objects: fewest and most objects of a video.
        max_speed: no object moves further than this in one frame.
        crossing: probability that an object enters or leaves.
        plots: probability of each plot, a way to make one kind of reasoning expression true.
        distinct_colours: whether every object of a video has a colour of its own.
        noise: largest deviation that sensor noise adds to a channel.
        growth: largest change of size over the video, as a fraction of the first radius.
        reasoning: kinds of reasoning expressions that are written where they hold.
        wordings: how many ways there are to say each of them.
        absent: probability of an expression about a shape that is not there.
    """

    colours: tuple[str, ...]
    forms: tuple[str, ...]
    radii: dict[str, tuple[float, float]]
    objects: tuple[int, int]
    max_speed: float
    crossing: float
    plots: dict[str, float]
    distinct_colours: bool
    noise: int
    growth: float
    reasoning: tuple[str, ...]
    wordings: int
    absent: float


PRESETS = {
    "easy": Preset(
        colours=("red", "green", "blue", "yellow"),
        forms=("circle", "square"),
        radii={"medium": (0.12, 0.20)},
        objects=(2, 2),
        max_speed=0.12,
        crossing=0.3,
        plots={"plain": 0.2, "fastest": 0.4, "turn": 0.4},
        distinct_colours=True,
        noise=0,
        growth=0.0,
        reasoning=("fastest", "turn"),
        wordings=1,
        absent=0.1,
    ),
    "full": Preset(
        colours=tuple(COLOURS),
        forms=FORMS,
        radii={"small": (0.07, 0.09), "large": (0.14, 0.18)},
        objects=(3, 5),
        max_speed=0.14,
        crossing=0.3,
        plots={"plain": 0.2, "fastest": 0.2, "turn": 0.2, "still": 0.1, "odd": 0.3},
        distinct_colours=False,
        noise=4,
        growth=0.15,
        reasoning=("fastest", "turn", "still", "odd", "leaves", "enters"),
        wordings=3,
        absent=0.4,
    ),
}


@dataclass(frozen=True)
class Shape:
    """One object: what it looks like and where it goes.

    Args:
        colour: a name out of ``COLOURS``.
        form: a name out of ``FORMS``.
        size: name of its size.
        radii: ``int (T,)`` half extent in pixels.
        path: where its centre is.
    """

    colour: str
    form: str
    size: str
    radii: NDArray[np.int64]
    path: Path


@dataclass(frozen=True)
class Scene:
    """A video and its truth.

    Args:
        shapes: objects, back to front: a later one hides an earlier one.
        frames: ``uint8 (T, H, W, 3)`` RGB.
        labels: ``uint8 (T, H, W)``, 0 for the background and ``n + 1`` for the visible pixels of ``shapes[n]``.
    """

    shapes: tuple[Shape, ...]
    frames: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """Visible pixels, ``bool (N, T, H, W)``; all False in frames that show fewer than ``MIN_PIXELS``."""
        masks = np.stack([self.labels == n + 1 for n in range(len(self.shapes))])
        enough = masks.sum(axis=(2, 3), keepdims=True) >= MIN_PIXELS
        return np.asarray(masks & enough)

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Number of visible pixels, ``int (N, T)``."""
        return np.asarray(self.masks.sum(axis=(2, 3)), dtype=np.int64)

    @cached_property
    def in_full_view(self) -> NDArray[np.bool_]:
        """Where an object is neither cut off nor hidden by more than a sliver, ``bool (N, T)``."""
        height, width = self.labels.shape[1:]
        full = np.zeros(self.areas.shape, bool)
        for n, shape in enumerate(self.shapes):
            for time, ((x, y), r) in enumerate(zip(shape.path.centres, shape.radii, strict=True)):
                inside = r <= x < width - r and r <= y < height - r
                full[n, time] = inside and self.areas[n, time] >= FULL_VIEW * _area(shape.form, int(r))
        return full


def draw_scene(
    preset: Preset, objects: int | None, num_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> Scene:
    """Draw a video whose every object can be seen well in at least half of the frames.

    Args:
        preset: what may happen.
        objects: number of objects, or None for the preset's own range.
        num_frames: T.
        size: height and width in pixels.
        rng: the only source of chance.

    Returns:
        The scene.

    Raises:
        ValueError: if the objects do not fit the frame.
    """
    count = int(rng.integers(preset.objects[0], preset.objects[1] + 1)) if objects is None else objects
    for _ in range(_ATTEMPTS):
        shapes = _draw_shapes(preset, count, num_frames, size, rng)
        if shapes is None:
            continue
        scene = _render(shapes, size, preset.noise, rng)
        if (scene.in_full_view.sum(axis=1) >= (num_frames + 1) // 2).all():
            return scene
    raise ValueError(
        f"Expected `objects` and `size` to leave room for every object, but got {count} objects in {size} pixels; "
        "use fewer objects or larger frames"
    )


def _draw_shapes(
    preset: Preset, count: int, num_frames: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Shape, ...] | None:
    plot = str(rng.choice(list(preset.plots), p=list(preset.plots.values())))
    looks = _draw_looks(preset, count, plot, rng)
    # Nothing may hide a shape whose whole course matters.
    hero = count - 1 if plot in ("turn", "still") else int(rng.integers(count))
    side = min(size)
    shapes = []
    for n, (colour, form, size_name) in enumerate(looks):
        low, high = preset.radii[size_name]
        first = rng.uniform(low, high) * side
        last = first * (1 + rng.uniform(-preset.growth, preset.growth))
        radii = np.rint(np.linspace(first, last, num_frames)).astype(np.int64)
        spec = PathSpec(size, int(radii.max()), num_frames, preset.max_speed * side, preset.crossing)
        path = draw_path(spec, plot, n == hero, rng)
        if path is None:
            return None
        shapes.append(Shape(colour, form, size_name, radii, path))
    return tuple(shapes)


def _draw_looks(preset: Preset, count: int, plot: str, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """Draw colour, form and size of each object."""
    if preset.distinct_colours:
        colours = _pick(preset.colours, count, rng, replace=False)
    else:
        # half of the palette per video, so that colours and forms repeat: distractors, and targets of several objects
        colours = _pick(_pick(preset.colours, 3, rng, replace=False), count, rng, replace=True)
    forms = _pick(preset.forms, count, rng, replace=True)
    sizes = _pick(tuple(preset.radii), count, rng, replace=True)
    if plot == "odd":
        sizes = [sizes[0]] * count
        shared, odd = (colours, preset.colours) if rng.random() < 0.5 else (forms, preset.forms)
        usual, other = _pick(odd, 2, rng, replace=False)
        shared[:] = [usual] * count
        shared[int(rng.integers(count))] = other
        rest = forms if shared is colours else colours
        rest[:] = [rest[0]] * count
    return list(zip(colours, forms, sizes, strict=True))


def _pick(names: Sequence[str], count: int, rng: np.random.Generator, replace: bool) -> list[str]:
    if not replace and count > len(names):
        raise ValueError(f"Expected at most {len(names)} objects, one for each of {list(names)}, but got {count}")
    return [names[int(i)] for i in rng.choice(len(names), count, replace=replace)]


def _render(shapes: Sequence[Shape], size: tuple[int, int], noise: int, rng: np.random.Generator) -> Scene:
    num_frames = len(shapes[0].radii)
    labels = np.zeros((num_frames, *size), np.uint8)
    for time in range(num_frames):
        for n, shape in enumerate(shapes):
            x, y = (int(c) for c in shape.path.centres[time])
            _paint(labels[time], shape.form, (x, y), int(shape.radii[time]), n + 1)
    ends = rng.integers(0, 60, (2, 1, 1, 3)) if noise else np.repeat(rng.integers(0, 60, (1, 1, 1, 3)), 2, axis=0)
    ramp = np.linspace(0, 1, size[0]).reshape(-1, 1, 1)
    background = np.broadcast_to((1 - ramp) * ends[0] + ramp * ends[1], (*size, 3)).astype(np.int16)
    palette = np.array([(0, 0, 0), *(COLOURS[shape.colour] for shape in shapes)], np.int16)
    frames = np.where((labels == 0)[..., None], background, palette[labels])
    if noise:
        frames = np.where(_outlines(labels)[..., None], frames * 3 // 4, frames)
    if noise:
        frames += rng.integers(-noise, noise + 1, frames.shape, dtype=np.int8)
    return Scene(tuple(shapes), frames.clip(0, 255).astype(np.uint8), labels)


def _outlines(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the rims of all shapes, ``bool (T, H, W)``: what tells overlapping shapes of one colour apart."""
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = np.stack([cv2.erode(image, kernel) == cv2.dilate(image, kernel) for image in labels])
    return np.asarray(~inner & (labels > 0))


def _paint(canvas: NDArray[np.uint8], form: str, centre: tuple[int, int], radius: int, value: int) -> None:
    """Paint a shape into ``canvas``, ``uint8 (H, W)``, in place; parts outside are cut off."""
    (x, y), r = centre, radius
    if form == "circle":
        cv2.circle(canvas, (x, y), r, value, cv2.FILLED)
    elif form == "square":
        half = round(0.9 * r)
        cv2.rectangle(canvas, (x - half, y - half), (x + half, y + half), value, cv2.FILLED)
    elif form == "triangle":
        base = y + round(0.8 * r)
        cv2.fillConvexPoly(canvas, np.array([(x, y - r), (x - r, base), (x + r, base)], np.int32), value)
    else:
        arm = max(1, r // 3)
        cv2.rectangle(canvas, (x - r, y - arm), (x + r, y + arm), value, cv2.FILLED)
        cv2.rectangle(canvas, (x - arm, y - r), (x + arm, y + r), value, cv2.FILLED)


@cache
def _area(form: str, radius: int) -> int:
    """Number of pixels of a shape that nothing hides."""
    canvas = np.zeros((2 * radius + 3, 2 * radius + 3), np.uint8)
    _paint(canvas, form, (radius + 1, radius + 1), radius, 1)
    return int(canvas.sum())
