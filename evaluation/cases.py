"""What is measured against what: a prediction and the truth, at the frames that count."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Literal

from datamodules.structures import VideoSample
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

    @classmethod
    def of(cls, sample: VideoSample) -> "Truth":
        """Return the annotation of a sample at the frames that count.

        Raises:
            ValueError: if it is hidden.
        """
        if sample.masks is None:
            raise ValueError(f"Expected masks for {sample.key!r}, but its annotation is hidden; use `predict` instead")
        times = scored_times(sample)
        objects = [BitMasks.of(each) for each in sample.masks.stack(times)]
        foreground, void = (
            None if stack is None else BitMasks.of(stack.stack(times)) for stack in (sample.foreground, sample.void)
        )
        return cls((len(times), *sample.size), objects, foreground, void)

    @cached_property
    def target(self) -> BitMasks:
        """The union of the objects; of one object itself, with the boundaries that were drawn of it."""
        return reduce(or_, self.objects) if self.objects else BitMasks.empty(self.shape)


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one expression, or for several that are measured together.

    Args:
        shape: (T, H, W).
        tracks: masks of each predicted object; mostly one.
        missing: times without a usable prediction, where ``tracks`` are empty.
        lost: ``expression`` if nothing at all was found for it, ``video`` if neither for any other of its video.
        parts: the predictions for each of several expressions, whose tracks these are.
    """

    shape: Shape
    tracks: Sequence[BitMasks]
    missing: tuple[int, ...] = ()
    lost: Literal["video", "expression"] | None = None
    parts: "tuple[Prediction, ...]" = ()

    @classmethod
    def together(cls, parts: "Sequence[Prediction]") -> "Prediction":
        """Return the predictions for several expressions as one, with one track of each.

        A time is missing if it is for all of them, and of what is lost it says the least.
        """
        if len(parts) == 1:
            return parts[0]
        missing = set.intersection(*(set(part.missing) for part in parts))
        lost = min((part.lost for part in parts), key=(None, "expression", "video").index)
        return cls(parts[0].shape, [part.mask for part in parts], tuple(sorted(missing)), lost, tuple(parts))

    @cached_property
    def mask(self) -> BitMasks:
        """The union of the tracks."""
        return reduce(or_, self.tracks) if self.tracks else BitMasks.empty(self.shape)


def scored_times(sample: VideoSample) -> list[int]:
    """Return the times of a sample that are measured."""
    return list(range(sample.num_frames)) if sample.scored is None else sample.scored
