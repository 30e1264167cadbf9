"""Loops over the words of masks, compiled by numba at their first call.

Words are ``uint64 (T, W, ceil(H / 64))`` as in `BitMasks`; those of one frame are a plane. Words and integers never
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

_NONE, _ONE = np.uint64(0), np.uint64(1)
_FIRST_CHARACTER, _MOST_CHARACTERS = 48, 7  # of a number in COCO's compressed counts


def compiled(function: Kernel) -> Kernel:
    """Return a function that is compiled at its first call, and then kept on disk.

    It is kept in ``NUMBA_CACHE_DIR``, or in ``__pycache__`` beside this file, or in the user's cache folder; where none
    of them can be written, every process compiles for itself.
    """
    try:
        return cast(Kernel, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # what numba raises if there is no such place
        return cast(Kernel, numba.njit(nogil=True)(function))


# --- words -------------------------------------------------------------------------------------------------------


@compiled
def _ones(word: np.uint64) -> int:
    """Return the number of set bits; LLVM knows this form and makes one instruction of it."""
    word -= (word >> _ONE) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))  # type: ignore[return-value]


@compiled
def _below(count: int) -> np.uint64:
    """Return a word whose lowest ``count`` bits are set; none if it is negative, all from 64 on."""
    if count <= 0:
        return _NONE
    return ~_NONE if count >= 64 else (_ONE << np.uint64(count)) - _ONE


@compiled
def _smear(word: np.uint64, places: int) -> np.uint64:
    """Return the bits within ``places`` of a set one."""
    up = down = word
    done, places = 1, min(places, 63) + 1
    while done < places:
        step = min(done, places - done)
        up |= up << np.uint64(step)
        down |= down >> np.uint64(step)
        done += step
    return up | down


@compiled
def _lowest(word: np.uint64) -> int:
    """Return the place of the lowest set bit."""
    return _ones(~word & (word - _ONE))


@compiled
def _highest(word: np.uint64) -> int:
    """Return the place of the highest set bit."""
    for step in (1, 2, 4, 8, 16, 32):
        word |= word >> np.uint64(step)
    return _ones(word) - 1


# --- from pixels and runs to words -------------------------------------------------------------------------------


@compiled
def pack(pixels: Octets, octets: Octets) -> None:
    """Fill words with pixels.

    Args:
        pixels: ``uint8 (T, H, W)``, everything that is not 0 is set.
        octets: ``uint8 (T, W, 8 * ceil(H / 64))``, the octets of words of zeros.
    """
    time, height, width = pixels.shape
    eight = np.empty(width, np.uint8)  # rows at a time, so that the inner loop goes along a row
    for t in range(time):
        for octet in range((height + 7) // 8):
            eight[:] = 0
            for bit in range(min(8, height - 8 * octet)):
                row = pixels[t, 8 * octet + bit]
                for x in range(width):
                    eight[x] |= np.uint8(row[x] != 0) << np.uint8(bit)
            for x in range(width):
                octets[t, x, octet] = eight[x]


@compiled
def fill_runs(runs: Counts, plane: Words, height: int) -> None:
    """Set the pixels of every second run in a plane of zeros; runs go down the columns and fill the picture."""
    x = y = 0
    for number in range(len(runs)):
        left = int(runs[number])
        while left > 0 and x < len(plane):
            end = min(y + left, height)
            if number % 2 == 1:
                for j in range(y // 64, (end + 63) // 64):
                    plane[x, j] |= _below(end - 64 * j) & ~_below(y - 64 * j)
            left -= end - y
            y = end
            if y == height:
                x, y = x + 1, 0


@compiled
def parse_runs(text: Octets, pixels: int) -> Counts:
    """Return the runs of COCO's compressed counts, or none if they are malformed or do not fill the picture.

    A number is written in characters of 5 bits, low ones first, the sixth bit saying that more follow; from the fourth
    number on it is the difference to the one before the last.
    """
    runs = np.empty(len(text), np.int64)
    number = place = 0
    value = total = np.int64(0)
    for character in text:
        bits = np.int64(character) - _FIRST_CHARACTER
        if bits < 0 or bits > 63 or place == _MOST_CHARACTERS:
            return runs[:0]
        value |= (bits & 31) << (5 * place)
        place += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= np.int64(1) << (5 * place)
        runs[number] = value + (runs[number - 2] if number > 2 else 0)
        total += runs[number]
        if runs[number] < 0 or total > pixels:
            return runs[:0]
        number += 1
        place, value = 0, np.int64(0)
    return runs[:number] if place == 0 and total == pixels else runs[:0]


# --- counts ------------------------------------------------------------------------------------------------------


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
    """Return how many pixels are set in both and in any of two masks, ``int64 (2, T)``."""
    counts = np.zeros((2, len(words)), np.int64)
    for t in range(len(words)):
        flat, other_flat = words[t].ravel(), others[t].ravel()
        for k in range(len(flat)):
            counts[0, t] += _ones(flat[k] & other_flat[k])
            counts[1, t] += _ones(flat[k] | other_flat[k])
    return counts


@compiled
def count_near(words: Words, others: Words, spans: Counts) -> Counts:
    """Return how many set pixels have one of the other mask within reach, ``int64 (T,)``.

    Args:
        words: whose pixels are counted.
        others: where they look for neighbours.
        spans: ``int64 (R,)``, how far up and down the reach goes 0, 1, … R - 1 columns aside.
    """
    counts = np.zeros(len(words), np.int64)
    time, width, length = words.shape
    for t in range(time):
        for x in range(width):
            for j in range(length):
                if words[t, x, j]:
                    counts[t] += _ones(words[t, x, j]) - _ones(_alone(words[t, x, j], others[t], x, j, spans))
    return counts


@compiled
def _alone(word: np.uint64, plane: Words, x: int, j: int, spans: Counts) -> np.uint64:
    """Return the bits of word j of column x that have none of a plane within reach; the nearest columns first."""
    for aside in range(min(len(spans), len(plane))):
        if word and x >= aside:
            word &= ~_reached(plane[x - aside], j, spans[aside])
        if word and x + aside < len(plane):
            word &= ~_reached(plane[x + aside], j, spans[aside])
        if word == _NONE:
            break
    return word


@compiled
def _reached(column: Words, j: int, span: int) -> np.uint64:
    """Return the rows of word j that have a set row at most ``span`` away; of other words only the nearest counts."""
    reached = _smear(column[j], span) if column[j] else _NONE
    far = (span + 63) // 64
    for k in range(j - 1, max(j - far, 0) - 1, -1):
        if column[k]:
            reached |= _below(_highest(column[k]) - 64 * (j - k) + span + 1)
            break
    for k in range(j + 1, min(j + far, len(column) - 1) + 1):
        if column[k]:
            reached |= ~_below(_lowest(column[k]) + 64 * (k - j) - span)
            break
    return reached


@compiled
def draw_boundaries(words: Words, height: int) -> Words:
    """Return the pixels that differ from their right, lower or lower right neighbour, where that is in the image."""
    boundaries = np.empty_like(words)
    time, width, length = words.shape
    last = _ONE << np.uint64((height - 1) % 64)
    for t in range(time):
        for x in range(width):
            here, beside = words[t, x], words[t, min(x + 1, width - 1)]
            for j in range(length):
                differs = here[j] ^ _under(here, j, last)
                boundaries[t, x, j] = differs | (here[j] ^ beside[j]) | (here[j] ^ _under(beside, j, last))
    return boundaries


@compiled
def _under(column: Words, j: int, last: np.uint64) -> np.uint64:
    """Return word j moved up by a row; the last row of the image stays, so that it differs from nothing below."""
    under: np.uint64 = column[j] >> _ONE
    under |= column[j + 1] << np.uint64(63) if j + 1 < len(column) else column[j] & last
    return under
