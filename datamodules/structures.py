"""The record every part of thinkseg speaks: one video, one expression, and its masks, read when asked for."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


class LazyStack:
    """Slices over time that are read when they are asked for, and kept.

    Args:
        read: picklable function from a time index to the slice at that time, a tensor without the time axis.
        length: number of slices.
        dim: where the time axis goes when slices are stacked (0 for frames and unions, 1 for masks per object).
    """

    def __init__(self, read: Callable[[int], Tensor], length: int, dim: int = 0) -> None:
        self._read = read
        self._index = tuple(range(length))
        self._dim = dim
        self._slices: dict[int, Tensor] = {}

    @classmethod
    def of(cls, stacked: Tensor, dim: int = 0) -> "LazyStack":
        """Wrap a tensor that is already in memory; its time axis is ``dim``."""
        stack = cls(_Unreadable(), stacked.shape[dim], dim)
        stack._slices = dict(enumerate(stacked.unbind(dim)))
        return stack

    def __len__(self) -> int:
        return len(self._index)

    def at(self, time: int) -> Tensor:
        """Return the slice at one time, without the time axis."""
        source = self._index[time]
        if source not in self._slices:
            self._slices[source] = self._read(source)
        return self._slices[source]

    def stack(self, index: Sequence[int] | None = None) -> Tensor:
        """Return the slices at ``index`` (default: all of them), stacked along the time axis."""
        times = range(len(self)) if index is None else index
        return torch.stack([self.at(time) for time in times], dim=self._dim)

    def select(self, index: Sequence[int]) -> "LazyStack":
        """Return a view of the slices at ``index`` that shares what has been read."""
        view = LazyStack(self._read, 0, self._dim)
        view._index = tuple(self._index[time] for time in index)
        view._slices = self._slices
        return view

    def __getstate__(self) -> dict[str, Any]:
        # A view of a few frames must not carry the others to another process.
        wanted = set(self._index)
        return self.__dict__ | {"_slices": {time: part for time, part in self._slices.items() if time in wanted}}


class _Unreadable:
    """The reader of a stack that is in memory as a whole."""

    def __call__(self, time: int) -> Tensor:
        raise IndexError(f"Expected a time inside the stack, but got {time}")


@dataclass
class VideoSample:
    """One expression about one video.

    Args:
        video_id: name of the video in its dataset; may contain ``/``.
        expression_id: name of the expression, unique within its video.
        expression: the sentence, in its original case.
        frame_ids: position of each frame of this sample in the sorted frame list of the video.
        frames: ``uint8 (3, H, W)`` RGB per time.
        masks: ``bool (N, H, W)`` per time, one plane per annotated object, or None where the annotation is hidden.
        foreground: ``bool (H, W)`` per time, the union of every annotated object of the video, or None if unknown.
        void: ``bool (H, W)`` per time, pixels that do not count, or None if all do.
        scored: times that are measured, in order, one that counts twice twice; None is all of them.
        meta: facts a protocol or a picture needs: ``group`` (in which the benchmark reports it, or absent),
            ``frame_names`` (of the whole video, by ``frame_ids``), ``dataset``, ``conversations``.

    Time indices count ``frames``; ``frame_ids`` maps them to the video.
    """

    video_id: str
    expression_id: str
    expression: str
    frame_ids: list[int]
    frames: LazyStack
    masks: LazyStack | None = None
    foreground: LazyStack | None = None
    void: LazyStack | None = None
    scored: list[int] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Number of frames of this sample."""
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels; reads the first frame."""
        height, width = self.frames.at(0).shape[-2:]
        return int(height), int(width)

    @property
    def key(self) -> str:
        """Name that is unique within the dataset."""
        return f"{self.video_id}/{self.expression_id}"

    def target(self, index: Sequence[int] | None = None) -> Tensor:
        """Return the union of all objects, ``bool (K, H, W)``, at ``index`` (default: all frames)."""
        return self._annotation().stack(index).any(dim=0)

    def boxes(self, time: int) -> Tensor:
        """Return the tight box of each visible object, ``float32 (M, 4)`` xyxy in pixels, half-open.

        Objects that are absent at ``time`` have no row, so M can be 0.
        """
        return tight_boxes(self._annotation().at(time))

    def select(self, index: Sequence[int]) -> "VideoSample":
        """Return the sample restricted to the frames at ``index``, in that order."""
        return VideoSample(
            video_id=self.video_id,
            expression_id=self.expression_id,
            expression=self.expression,
            frame_ids=[self.frame_ids[time] for time in index],
            frames=self.frames.select(index),
            masks=None if self.masks is None else self.masks.select(index),
            foreground=None if self.foreground is None else self.foreground.select(index),
            void=None if self.void is None else self.void.select(index),
            scored=None if self.scored is None else places(self.scored, index),
            meta=self.meta,
        )

    def _annotation(self) -> LazyStack:
        if self.masks is None:
            raise ValueError(f"Expected masks for {self.key!r}, but its annotation is hidden; use `predict` instead")
        return self.masks


def places(wanted: Sequence[int], among: Sequence[int]) -> list[int]:
    """Return where the numbers of ``wanted`` are in ``among``, in its order, each as often as it is wanted.

    >>> places([2, 5, 5, 9], among=[9, 5, 4])
    [0, 1, 1]
    """
    counts = Counter(wanted)
    return [place for place, number in enumerate(among) for _ in range(counts[number])]


def tight_boxes(masks: Tensor) -> Tensor:
    """Return the box of each plane of ``bool (N, H, W)`` that is not empty, ``float32 (M, 4)`` xyxy, half-open."""
    boxes = [_extent(mask) for mask in masks if mask.any()]
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def _extent(mask: Tensor) -> tuple[int, int, int, int]:
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
