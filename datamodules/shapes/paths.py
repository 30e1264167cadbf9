"""Where a shape goes: paths that fit the frame and leave no doubt about how the shape moves."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Motion = Literal["still", "straight", "turn"]
Crossing = Literal["inside", "enters", "leaves"]
#: starting points tried for one course before another course is drawn
_STARTS = 64
_COURSES = 40
#: a turn needs two steps before and two after it to be seen
_TURN_FRAMES = 5
#: crossing the border needs frames inside and outside
_CROSSING_FRAMES = 4
#: speeds as fractions of the fastest allowed: (fastest, any other) in the plot of that name differ by more than 2
_FASTEST, _OTHERS, _ANY = (0.8, 1.0), (0.15, 0.38), (0.25, 1.0)


@dataclass(frozen=True)
class Path:
    """Centres of one shape over time.

    Args:
        centres: ``int (T, 2)`` xy in pixels; whole pixels, so that the area of a shape in full view is constant.
        motion: how it moves.
        speed: length of one step in pixels.
    """

    centres: NDArray[np.int64]
    motion: Motion
    speed: float


@dataclass(frozen=True)
class PathSpec:
    """What a path must respect.

    Args:
        size: height and width of the frame in pixels.
        radius: largest half extent of the shape in pixels.
        num_frames: T.
        max_speed: longest step in pixels.
        crossing: probability that the shape enters or leaves.
    """

    size: tuple[int, int]
    radius: int
    num_frames: int
    max_speed: float
    crossing: float


def draw_path(spec: PathSpec, plot: str, hero: bool, rng: np.random.Generator) -> Path | None:
    """Draw a path for the hero of a plot, or for another shape of the same video.

    The hero of ``fastest`` moves more than twice as fast as the others, that of ``turn`` is the only one to turn, that
    of ``still`` the only one that rests. A shape that enters is outside in the first frame and inside for the last
    half of the video; one that leaves, the other way round.

    Args:
        spec: what the path must respect.
        plot: name of the plot.
        hero: whether the shape is the one that the plot is about.
        rng: the only source of chance.

    Returns:
        The path, or None if no course of this kind fits the frame.
    """
    motion, speeds = _course_kind(plot, hero, spec.num_frames)
    crossing: Crossing = "inside"
    if speeds == _ANY and spec.num_frames >= _CROSSING_FRAMES and rng.random() < spec.crossing:
        crossing = "enters" if rng.random() < 0.5 else "leaves"
    for _ in range(_COURSES):
        # Only the fast get across the border within half a video.
        low, high = speeds if crossing == "inside" else (0.75, 1.0)
        speed = 0.0 if motion == "still" else float(rng.uniform(low, high)) * spec.max_speed
        offsets = _course(motion, speed, spec.num_frames, rng)
        starts = rng.uniform(-spec.radius, np.array(spec.size[::-1]) + spec.radius, (_STARTS, 1, 2))
        centres = np.rint(starts + offsets).astype(np.int64)
        fits = np.flatnonzero(_fits(centres, crossing, spec))
        if len(fits):
            return Path(centres[fits[0]], motion, speed)
    return None


def _course_kind(plot: str, hero: bool, num_frames: int) -> tuple[Motion, tuple[float, float]]:
    if plot == "fastest":
        return "straight", _FASTEST if hero else _OTHERS
    if plot == "turn" and hero and num_frames >= _TURN_FRAMES:
        return "turn", (0.5, 1.0)
    if plot == "still" and hero:
        return "still", (0.0, 0.0)
    return "straight", _ANY


def _course(motion: Motion, speed: float, num_frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return offsets from the start, ``float (T, 2)``."""
    angle = rng.uniform(0, 2 * np.pi)
    angles = np.full(num_frames - 1, angle)
    if motion == "turn":
        bend = int(rng.integers(2, num_frames - 2))
        angles[bend:] += rng.choice([-1, 1]) * rng.uniform(np.pi / 2, np.pi)
    steps = speed * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.concatenate([np.zeros((1, 2)), steps.cumsum(axis=0)])


def _fits(centres: NDArray[np.int64], crossing: Crossing, spec: PathSpec) -> NDArray[np.bool_]:
    """Whether each of the candidates, ``int (S, T, 2)``, is inside and outside when it should be."""
    extent = np.array(spec.size[::-1])
    inside = np.all((centres >= spec.radius) & (centres < extent - spec.radius), axis=2)
    outside = np.any((centres < -spec.radius) | (centres >= extent + spec.radius), axis=2)
    half = spec.num_frames // 2
    if crossing == "leaves":
        return np.asarray(inside[:, :half].all(axis=1) & outside[:, -1])
    if crossing == "enters":
        return np.asarray(inside[:, -half:].all(axis=1) & outside[:, 0])
    return np.asarray(inside.all(axis=1))
