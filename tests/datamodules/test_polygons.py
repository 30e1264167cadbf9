"""Polygons: the pixels that COCO and LISA give them."""

import numpy as np
import pytest
import torch

from datamodules.masks import decode_rle
from datamodules.polygons import paint_polygon, polygons_to_rle


def test_coco_covers_what_a_rectangle_encloses():
    expected = torch.zeros(10, 12, dtype=torch.bool)
    expected[2:5, 3:8] = True
    assert torch.equal(decode_rle(polygons_to_rle([[3, 2, 8, 2, 8, 5, 3, 5]], (10, 12))), expected)
    expected[6:9, 0:2] = True
    two = [[3.0, 2.0, 8.0, 2.0, 8.0, 5.0, 3.0, 5.0], [-4, 6, 2, 6, 2, 9, -4, 9]]
    assert torch.equal(decode_rle(polygons_to_rle(two, (10, 12))), expected)


def test_lisa_covers_the_corners_too():
    canvas = paint_polygon(np.zeros((10, 12), np.uint8), [[3.9, 2], [8, 2.5], [8, 5], [3, 5]], 255)
    expected = np.zeros((10, 12), np.uint8)
    expected[2:6, 3:9] = 255
    assert np.array_equal(canvas, expected)


def test_lisa_paints_points_and_lines():
    assert paint_polygon(np.zeros((4, 4), np.uint8), [[2, 1]], 1).nonzero() == (1, 2)
    assert paint_polygon(np.zeros((4, 4), np.uint8), [[0, 1], [3, 1]], 1).sum() == 4


def test_no_polygon():
    assert polygons_to_rle([], (4, 4)) is None


@pytest.mark.parametrize(
    "polygon", [[0, 0, 1, 1], [0, 0, 1, 1, 2], [0, 0, 1, 1, 2, float("nan")], [0, 0, 1, 1, 2, 9], [[0, 0]] * 6, "zz"]
)
def test_what_is_no_polygon(polygon):
    with pytest.raises(ValueError, match="polygon"):
        polygons_to_rle([polygon], (4, 4))
