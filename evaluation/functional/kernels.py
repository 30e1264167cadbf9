"""Loops over the words of masks, compiled by numba at their first call.

Words are ``uint64 (T, ceil(H / 64), W)`` as in `BitMasks`; those of one frame are a plane. Words and integers never
meet in one expression, because numba would make floats of them.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]
Octets = NDArray[np.uint8]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_NONE, _ONE, _ALL = np.uint64(0), np.uint64(1), np.uint64(2**64 - 1)
_FIRST_CHARACTER, _MOST_BITS = 48, 35  # of a number in COCO's compressed counts


def compiled(function: Kernel) -> Kernel:
    """Return a function that is compiled at its first call, and then kept on disk.

    It is kept in ``NUMBA_CACHE_DIR``, or in ``__pycache__`` beside this file, or in the user's cache folder; where none
    of them can be written, every process compiles for itself.
    """
    try:
        return cast(Kernel, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # what numba raises if there is no such place
        return cast(Kernel, numba.njit(nogil=True)(function))


# --- from pixels and runs to words -------------------------------------------------------------------------------


@compiled
def pack(pixels: Octets, words: Words) -> None:
    """Fill words with pixels.

    Args:
        pixels: ``uint8 (T, H, W)``, everything that is not 0 is set.
        words: of that shape, whatever they hold.
    """
    time, height, width = pixels.shape
    eights = np.empty((8, width), np.uint8)  # eight rows each; loops go along rows, many pixels at a time
    for t in range(time):
        for j in range(words.shape[1]):
            eights[:] = 0
            for y in range(min(64, height - 64 * j)):
                row, eight, bit = pixels[t, 64 * j + y], eights[y // 8], np.uint8(1 << y % 8)
                for x in range(width):
                    eight[x] |= bit if row[x] else np.uint8(0)
            for x in range(width):
                word = _NONE
                for number in range(8):
                    word |= np.uint64(eights[number, x]) << np.uint64(8 * number)
                words[t, j, x] = word


@compiled
def parse_runs(text: Octets, pixels: int) -> Counts:
    """Return the runs of COCO's compressed counts, or none if they are malformed or do not fill the picture.

    A number is written in characters of 5 bits, low ones first, the sixth bit saying that more follow; from the fourth
    number on it is the difference to the one before the last. Where numbers end and which are negative no processor can
    foresee: there are no branches on it.
    """
    runs = np.empty(len(text), np.int64)
    number = 0
    value = shift = np.int64(0)
    for character in text:
        bits = np.int64(character) - _FIRST_CHARACTER
        if bits < 0 or bits > 63 or shift == _MOST_BITS:
            return runs[:0]
        value |= (bits & 31) << shift
        runs[number] = value - ((bits & 16) << (shift + 1)) + (runs[number - 2] if number > 2 else 0)
        more = (bits >> 5) & 1
        number += 1 - int(more)
        value, shift = value & -more, (shift + 5) & -more  # 0 where the number ends
    total = least = np.int64(0)
    for run in runs[:number]:
        total, least = total + run, min(least, run)
    return runs[:number] if shift == 0 and least == 0 and total == pixels else runs[:0]


@compiled
def fill_runs(runs: Counts, plane: Words, height: int) -> None:
    """Set the pixels of every second run in a plane of zeros; runs go down the columns and fill the picture."""
    width = plane.shape[1]
    x = y = 0
    for number in range(len(runs)):
        y += int(runs[number])
        while y >= height and x < width:
            x, y = x + 1, y - height
            if number % 2 == 1 and x < width:
                plane[0, x] ^= _ONE  # the run goes on in this column
        if x < width:
            plane[y >> 6, x] ^= _ONE << np.uint64(y & 63)
    _fill_between_marks(plane, height)


@compiled
def _fill_between_marks(plane: Words, height: int) -> None:
    """Set the pixels from every odd mark of a column to before the next; a mark is a set bit."""
    length, width = plane.shape
    carried = np.zeros(width, np.uint64)  # all bits, if the number above was odd
    inside = _ALL >> np.uint64((64 - height) & 63)
    for j in range(length):
        row = plane[j]
        for x in range(width):
            word = row[x]
            for places in (1, 2, 4, 8, 16, 32):
                word ^= word << np.uint64(places)
            word ^= carried[x]
            carried[x] = _ALL if word >> np.uint64(63) else _NONE
            row[x] = word if j + 1 < length else word & inside


# --- counts ------------------------------------------------------------------------------------------------------


@compiled
def _ones(word: np.uint64) -> int:
    """Return the number of set bits; LLVM knows this form and makes one instruction of it."""
    word -= (word >> _ONE) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))  # type: ignore[return-value]


@compiled
def count_set(words: Words) -> Counts:
    """Return the number of set pixels per frame, ``int64 (T,)``."""
    counts = np.zeros(len(words), np.int64)
    for t in range(len(words)):
        for word in words[t].flat:
            counts[t] += _ones(word)
    return counts


@compiled
def count_common(words: Words, others: Words) -> Counts:
    """Return how many pixels are set in both of two masks, ``int64 (T,)``."""
    counts = np.zeros(len(words), np.int64)
    for t in range(len(words)):
        flat, other_flat = words[t].ravel(), others[t].ravel()
        for k in range(len(flat)):
            counts[t] += _ones(flat[k] & other_flat[k])
    return counts


# --- boundaries --------------------------------------------------------------------------------------------------


@compiled
def draw_boundaries(words: Words, height: int) -> Words:
    """Return the pixels that differ from their right, lower or lower right neighbour, where that is in the image."""
    boundaries = np.empty_like(words)
    time, length, width = words.shape
    last = _ONE << np.uint64((height - 1) % 64)
    under = np.empty(width, np.uint64)
    for t in range(time):
        for j in range(length):
            here, row = words[t, j], boundaries[t, j]
            if j + 1 < length:
                below = words[t, j + 1]
                for x in range(width):
                    under[x] = here[x] >> _ONE | below[x] << np.uint64(63)
            else:  # the image's last row stays, so that it differs from nothing below
                for x in range(width):
                    under[x] = here[x] >> _ONE | here[x] & last
            for x in range(width - 1):
                row[x] = (here[x] ^ under[x]) | (here[x] ^ here[x + 1]) | (here[x] ^ under[x + 1])
            row[width - 1 :] = here[width - 1 :] ^ under[width - 1 :]  # a picture without columns has no last one
    return boundaries


@compiled
def dilate(words: Words, spans: Counts) -> Words:
    """Return the pixels that have a set one within reach; rows below the image may be set, too.

    Args:
        words: what is dilated.
        spans: ``int64 (R,)``, descending: how far up and down the reach goes 0, 1, … R - 1 columns aside.
    """
    reach = np.zeros_like(words)
    time, length, width = words.shape
    for t in range(time):
        top, bottom, first, end = _occupied(words[t])
        top, bottom = max(top - (spans[0] + 63) // 64, 0), min(bottom + (spans[0] + 63) // 64, length)
        plane = words[t, top:bottom, first:end].copy()
        spread = np.empty_like(plane)
        span = 0
        for aside in range(len(spans) - 1, -1, -1):  # from the farthest columns, where the reach is shortest
            while span < spans[aside]:
                # With more than one beyond what there is, a gap would stay at the edge of the image.
                step = min(spans[aside] - span, span + 1, 63)
                _spread(plane, step, spread)
                plane, spread = spread, plane
                span += step
            left, right = max(first, aside), min(end, width - aside)
            for j in range(bottom - top):
                if left < end:
                    _merge(plane[j, left - first :], reach[t, top + j, left - aside : end - aside])
                if first < right:
                    _merge(plane[j, : right - first], reach[t, top + j, first + aside : right + aside])
    return reach


@compiled
def _occupied(plane: Words) -> tuple[int, int, int, int]:
    """Return the first row of words that is not empty and the one behind the last, and the same of columns."""
    length, width = plane.shape
    top, bottom, first, end = length, 0, width, 0
    for j in range(length):
        for x in range(width):
            if plane[j, x]:
                top, bottom = min(top, j), j + 1
                first, end = min(first, x), max(end, x + 1)
    return min(top, bottom), bottom, min(first, end), end


@compiled
def _spread(plane: Words, step: int, spread: Words) -> None:
    """Fill ``spread`` with the union of a plane and of it moved up and down by ``step`` rows, less than 64."""
    near, far = np.uint64(step), np.uint64(64 - step)
    for j in range(len(plane)):
        here, row = plane[j], spread[j]
        for x in range(len(row)):
            row[x] = here[x] | here[x] << near | here[x] >> near
        if j > 0:
            above = plane[j - 1]
            for x in range(len(row)):
                row[x] |= above[x] >> far
        if j + 1 < len(plane):
            below = plane[j + 1]
            for x in range(len(row)):
                row[x] |= below[x] << far


@compiled
def _merge(row: NDArray[np.uint64], into: NDArray[np.uint64]) -> None:
    """Add the bits of a row to another."""
    for x in range(len(into)):
        into[x] |= row[x]
