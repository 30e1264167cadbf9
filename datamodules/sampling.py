"""Which frames of a video are read from disk."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np


class FrameSelection(ABC):
    """Chooses the frames that make a sample."""

    @abstractmethod
    def __call__(self, areas: Callable[[], Sequence[int]], length: int, generator: np.random.Generator) -> list[int]:
        """Return positions in the sorted frame list of the video, ascending.

        Args:
            areas: gives the area of the union of all targets at each frame, in pixels; computed when it is called.
            length: number of frames of the video, at least 1.
            generator: source of every random choice; its state is a function of (seed, epoch, index).
        """


class EveryFrame(FrameSelection):
    """Read every frame: evaluation and prediction."""

    def __call__(self, areas: Callable[[], Sequence[int]], length: int, generator: np.random.Generator) -> list[int]:
        """Return every position."""
        return list(range(length))


class UniformSelection(FrameSelection):
    """Read evenly spaced frames, both ends included: ``linspace(0, L - 1, num_frames)`` truncated to integers.

    Veason-R1 evaluates with 8 (``batch_eval_keyframe_sft_dataset_.py`` of SitongGong/Veason-R1).

    Args:
        num_frames: most frames to read; a shorter video is read whole.
    """

    def __init__(self, num_frames: int = 8) -> None:
        _at_least_one(num_frames, "num_frames")
        self.num_frames = num_frames

    def __call__(self, areas: Callable[[], Sequence[int]], length: int, generator: np.random.Generator) -> list[int]:
        """Return evenly spaced positions."""
        if length <= self.num_frames:
            return list(range(length))
        return [int(position) for position in np.linspace(0, length - 1, self.num_frames, dtype=int)]


class StridedThroughAnchor(FrameSelection):
    """Read evenly spaced frames through one in which the target is large: Veason-R1's training samples.

    The anchor is drawn uniformly from the ``top`` frames of largest union area, ties in favour of the earlier frame.

    Args:
        num_frames: most frames to read. Veason-R1's configuration says 6.
        top: number of candidate anchors.
        released: stride as the published code does: ``range(anchor mod s, L, s)`` with
            ``s = ceil(L / (num_frames - 1))`` never gives more than ``num_frames - 1`` frames (3 to 5 of 6). Otherwise
            the sample has ``min(num_frames, L)`` frames, see `spaced_through`.

    Reference:
        Veason-R1 (CVPR 2026), ``revos_keyframe_sft_dataset_mod.py`` of SitongGong/Veason-R1.
    """

    def __init__(self, num_frames: int = 6, top: int = 5, released: bool = False) -> None:
        _at_least_one(num_frames, "num_frames")
        _at_least_one(top, "top")
        self.num_frames = num_frames
        self.top = top
        self.released = released

    def __call__(self, areas: Callable[[], Sequence[int]], length: int, generator: np.random.Generator) -> list[int]:
        """Return positions that contain the anchor."""
        candidates = largest(areas(), self.top)
        return self.through(candidates[generator.integers(len(candidates))], length)

    def through(self, anchor: int, length: int) -> list[int]:
        """Return the positions for a given anchor, ascending."""
        if not self.released:
            return spaced_through(anchor, length, self.num_frames)
        if self.num_frames == 1:
            return [anchor]
        step = math.ceil(length / (self.num_frames - 1))
        return list(range(anchor % step, length, step))


def largest(areas: Sequence[int], top: int) -> list[int]:
    """Return the positions of the ``top`` largest areas, largest first, ties in favour of the earlier."""
    return sorted(range(len(areas)), key=lambda position: (-areas[position], position))[:top]


def spaced_through(anchor: int, length: int, num_frames: int) -> list[int]:
    """Return ``n = min(num_frames, length)`` positions that contain ``anchor`` and are spaced by ``length / n``.

    With ``k = floor(anchor * n / length)``, position i is ``floor((anchor * n + (i - k) * length) / n)``: the anchor is
    number k, and all are distinct and inside the video.

    >>> spaced_through(7, 12, 5)
    [2, 4, 7, 9, 11]
    """
    count = min(num_frames, length)
    before = anchor * count // length
    return [(anchor * count + (number - before) * length) // count for number in range(count)]


def _at_least_one(value: int, name: str) -> None:
    if value < 1:
        raise ValueError(f"Expected `{name}` to be at least 1, but got {value}")
