"""What is measured against what: a prediction and the truth, at the frames that count."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Literal

from evaluation.functional import BitMasks

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Truth:
    """The annotation of one expression.

    Args:
        shape: (T, H, W).
        objects: masks of each annotated object; none where the target is absent.
        foreground: the union of every annotated object of the video, or None if it is unknown.
        void: pixels that do not count, or None.
    """

    shape: Shape
    objects: Sequence[BitMasks]
    foreground: BitMasks | None = None
    void: BitMasks | None = None

    @cached_property
    def target(self) -> BitMasks:
        """The union of the objects; of one object itself, with the boundaries that were drawn of it."""
        return reduce(or_, self.objects) if self.objects else BitMasks.empty(self.shape)


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one expression.

    Args:
        shape: (T, H, W).
        tracks: masks of each predicted object; mostly one.
        missing: times without a usable prediction, where ``tracks`` are empty.
        lost: ``expression`` if nothing at all was found for it, ``video`` if neither for any other of its video.
    """

    shape: Shape
    tracks: Sequence[BitMasks]
    missing: tuple[int, ...] = ()
    lost: Literal["video", "expression"] | None = None

    @cached_property
    def mask(self) -> BitMasks:
        """The union of the tracks."""
        return reduce(or_, self.tracks) if self.tracks else BitMasks.empty(self.shape)
