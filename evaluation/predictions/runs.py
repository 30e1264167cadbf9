"""Masks as COCO's run-length codes, as a JSON of predictions holds them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from datamodules.masks import rle_counts, rle_size
from evaluation.functional import BitMasks


class Track(NamedTuple):
    """One object at several frames.

    Args:
        bits: its masks, empty where there is none that can be used.
        broken: place in time -> what is wrong with the code.
    """

    bits: BitMasks
    broken: dict[int, str]


def read_track(cells: Sequence[Any], size: tuple[int, int]) -> Track:
    """Return the masks that codes stand for; they are not decoded to pixels.

    Args:
        cells: what JSON holds for each frame: a run-length code, or null for an empty mask.
        size: height and width they must have.
    """
    broken = {}
    for place, cell in enumerate(cells):
        try:
            if cell is not None and rle_size(cell) != size:
                height, width = rle_size(cell)
                broken[place] = f"expected {size[0]} x {size[1]} (height x width), but got {height} x {width}"
        except ValueError as error:
            broken[place] = str(error)
    usable = [None if place in broken else cell for place, cell in enumerate(cells)]
    try:
        return Track(BitMasks.of(usable, size), broken)
    except ValueError:  # of one of them: which?
        broken |= {place: why for place, cell in enumerate(usable) if cell and (why := _defect(cell))}
        return Track(BitMasks.of([None if place in broken else cell for place, cell in enumerate(cells)], size), broken)


def _defect(rle: Any) -> str | None:
    try:
        rle_counts(rle)
    except ValueError as error:
        return str(error)
    return None
