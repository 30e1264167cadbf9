"""Masks of many frames as bits."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.masks import RLE, rle_counts, rle_size
from evaluation.functional import kernels


class BitMasks:
    """Masks of T frames, 64 pixels of a column to a word, so that operations on sets touch few bytes.

    What was derived from them is kept: a ground truth that many predictions are measured against, and that is this
    object each time, has its boundaries drawn and dilated once. They are therefore not to be changed.

    Args:
        words: ``uint64 (T, ceil(H / 64), W)``; bit k of word j of a column is row ``64 * j + k``, and 0 below the last.
        height: number of rows, H.
    """

    def __init__(self, words: NDArray[np.uint64], height: int) -> None:
        self.words = words
        self.height = height
        self._dilations: dict[int, NDArray[np.uint64]] = {}

    @classmethod
    def of(cls, masks: "Masks", size: tuple[int, int] | None = None) -> "BitMasks":
        """Return masks of any kind as bits; what is bits already is returned as it is.

        Args:
            masks: ``bool (T, H, W)`` of torch or numpy, or an RLE or None (an empty mask) for each of T frames.
            size: H and W, where no RLE says it.

        Raises:
            ValueError: if the masks are not bool, not (T, H, W), of several sizes, or a malformed RLE.
        """
        if isinstance(masks, BitMasks):
            return masks
        if isinstance(masks, Tensor | np.ndarray):
            return cls._from_dense(masks)
        return cls._from_rles(masks, size)

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> "BitMasks":
        """Return empty masks of a shape (T, H, W)."""
        time, height, width = shape
        return cls(np.zeros((time, -(-height // 64), width), np.uint64), height)

    @classmethod
    def _from_dense(cls, masks: Tensor | NDArray[Any]) -> "BitMasks":
        array = masks.detach().cpu().numpy() if isinstance(masks, Tensor) else masks
        if array.dtype != bool or array.ndim != 3:
            raise ValueError(f"Expected masks to be bool (T, H, W), but got {array.dtype.name} {array.shape}")
        bits = cls.empty(array.shape)
        kernels.pack(np.ascontiguousarray(array).view(np.uint8), bits.words)
        return bits

    @classmethod
    def _from_rles(cls, rles: Sequence[RLE | None], size: tuple[int, int] | None) -> "BitMasks":
        sizes = {rle_size(rle) for rle in rles if rle is not None} | ({size} if size else set())
        if len(sizes) != 1:
            raise ValueError(f"Expected masks of one size, but got {sorted(sizes) or 'no mask that says it'}")
        ((height, width),) = sizes
        bits = cls.empty((len(rles), height, width))
        for plane, rle in zip(bits.words, rles, strict=True):
            if rle is not None:
                kernels.fill_runs(_runs(rle, height * width), plane, height)
        return bits

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        return len(self.words), self.height, self.words.shape[2]

    def __or__(self, other: "BitMasks") -> "BitMasks":
        """Return the union."""
        return BitMasks(self.words | self._same(other), self.height)

    def __and__(self, other: "BitMasks") -> "BitMasks":
        """Return the intersection."""
        return BitMasks(self.words & self._same(other), self.height)

    def __sub__(self, other: "BitMasks") -> "BitMasks":
        """Return the pixels of this that are not in the other."""
        return BitMasks(self.words & ~self._same(other), self.height)

    def select(self, times: Sequence[int]) -> "BitMasks":
        """Return the masks of some frames, in that order."""
        return BitMasks(self.words[list(times)], self.height)

    def areas(self) -> NDArray[np.int64]:
        """Return the number of pixels per frame, ``int64 (T,)``."""
        return kernels.count_set(self.words)

    @cached_property
    def boundaries(self) -> "BitMasks":
        """Pixels that differ from their right, lower or lower right neighbour; the image's edge is no boundary."""
        return BitMasks(kernels.draw_boundaries(self.words, self.height), self.height)

    def count(self, other: "BitMasks") -> NDArray[np.int64]:
        """Return the number of pixels per frame that are in both, ``int64 (T,)``."""
        return kernels.count_common(self.words, self._same(other))

    def count_near(self, other: "BitMasks", radius: int) -> NDArray[np.int64]:
        """Return the number of pixels per frame with one of the other at most ``radius`` away, ``int64 (T,)``."""
        self._same(other)
        return kernels.count_common(self.words, other._dilated(radius))

    def _dilated(self, radius: int) -> NDArray[np.uint64]:
        """Return the words of the pixels that are at most ``radius`` away, and maybe some below the image."""
        if radius not in self._dilations:
            # Column by column the rows of a disc: exact, where a square or an elliptic structuring element is not.
            asides = range(min(radius + 1, max(self.words.shape[2], 1)))
            spans = np.array([math.isqrt(radius**2 - aside**2) for aside in asides], dtype=np.int64)
            self._dilations[radius] = kernels.dilate(self.words, spans)
        return self._dilations[radius]

    def dense(self) -> Tensor:
        """Return ``bool (T, H, W)``."""
        octets = np.ascontiguousarray(self.words.transpose(0, 2, 1)).view(np.uint8)
        bits = np.unpackbits(octets, axis=2, bitorder="little", count=self.height)
        return torch.from_numpy(bits.view(bool).transpose(0, 2, 1).copy())

    def _same(self, other: "BitMasks") -> NDArray[np.uint64]:
        """Return the words of other masks of this shape; those of other heights can have as many."""
        if self.shape != other.shape:
            raise ValueError(f"Expected masks of one shape (T, H, W), but got {self.shape} and {other.shape}")
        return other.words


#: Masks of T frames: bool (T, H, W) of torch or numpy, an RLE or None per frame, or bits.
Masks = BitMasks | Tensor | NDArray[Any] | Sequence[RLE | None]


def _runs(rle: RLE, pixels: int) -> NDArray[np.int64]:
    """Return the checked run lengths of an RLE."""
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        text = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
        runs = kernels.parse_runs(np.frombuffer(text, np.uint8), pixels)
        if len(runs):
            return runs
    return rle_counts(rle)  # or says what is wrong with them
