"""Polygons, and the masks that two benchmarks make of them."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from datamodules.masks import RLE, rle_size


def polygons_to_rle(polygons: Sequence[Any], size: tuple[int, int]) -> RLE | None:
    """Return the union of COCO's polygons, as pycocotools rasterises them.

    Args:
        polygons: ``[x1, y1, x2, y2, ...]`` each, at least three corners, in pixels.
        size: height and width of the picture.

    Returns:
        A compressed RLE, or None if there are no polygons.

    Raises:
        ValueError: if one is no polygon, or lies further outside the picture than it is large.
    """
    height, width = rle_size({"size": list(size)})
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"Expected a polygon [x1, y1, x2, y2, x3, y3, ...], but got {str(polygon)[:80]}")
        _check(polygon, size)
    if not polygons:
        return None
    rle = coco.merge(coco.frPyObjects(list(polygons), height, width))
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def paint_polygon(canvas: NDArray[np.uint8], points: Any, value: int) -> NDArray[np.uint8]:
    """Paint a polygon with its outline into a picture: corners are truncated to pixels, which belong to it.

    So paints LISA (``get_mask_from_json``). Its masks are up to a pixel larger on each side than COCO's.

    Args:
        canvas: ``uint8 (H, W)``; changed.
        points: corners ``[x, y]`` in pixels, at least one.
        value: what is painted.

    Returns:
        The canvas.

    Raises:
        ValueError: if it is no polygon, or lies further outside the picture than it is large.
    """
    pairs = isinstance(points, list) and points and all(isinstance(each, list) and len(each) == 2 for each in points)
    if not pairs:
        raise ValueError(f"Expected a polygon [[x1, y1], [x2, y2], ...], but got {str(points)[:80]}")
    _check([number for point in points for number in point], canvas.shape)
    cv2.fillPoly(canvas, [np.array(points, dtype=np.int32)], value)  # it draws the outline, which LISA draws once more
    return canvas


def _check(numbers: Sequence[Any], size: Sequence[int]) -> None:
    """Refuse what is no coordinate near the picture: both rasterisers take time and memory by the length of edges."""
    most = 2 * max(size)
    for number in numbers:
        if not isinstance(number, int | float) or not math.isfinite(number) or abs(number) > most:
            raise ValueError(
                f"Expected coordinates of a polygon between -{most} and {most}, but got {str(number)[:80]}"
            )
