import re

import numpy as np
import pytest
import torch

from evaluation.functional import (
    BitMasks,
    accuracy,
    boundary_accuracy,
    boundary_counts,
    region_counts,
    region_similarity,
    robustness,
)
from tests.evaluation.functional import plain

GENERATOR = np.random.default_rng(0)
MASKS = GENERATOR.random((3, 3, 70, 50)) < 0.3
BOOL, LARGER = torch.zeros(2, 4, 4, dtype=torch.bool), torch.zeros(2, 4, 5, dtype=torch.bool)
RLES = plain.FORMS["RLE"](BOOL.numpy())


@pytest.mark.parametrize("form", plain.FORMS)
@pytest.mark.parametrize("measure", [region_counts, boundary_counts, region_similarity, boundary_accuracy, robustness])
def test_every_form_gives_the_same(measure, form):
    given = [plain.FORMS[form](masks) for masks in MASKS]
    expected = measure(*MASKS)
    mixed = measure(given[0], MASKS[1], given[2])
    for got in (measure(*given), mixed):
        assert torch.equal(torch.stack([*got]), torch.stack([*expected]))


def test_no_rle_is_an_empty_mask():
    masks = MASKS[0].copy()
    masks[1] = False
    rles = plain.FORMS["RLE"](masks)
    rles[1] = None
    assert torch.equal(region_similarity(rles, MASKS[1]), region_similarity(masks, MASKS[1]))
    nothing = [None, None, None]  # its size is that of the others
    assert region_similarity(nothing, MASKS[0]).tolist() == [0, 0, 0]
    assert region_similarity(MASKS[0], nothing).tolist() == [0, 0, 0]


@pytest.mark.parametrize("form", plain.FORMS)
def test_no_frames(form):
    none = plain.FORMS[form](BOOL[:0].numpy())
    for measure in (region_similarity, boundary_accuracy, accuracy):
        assert measure(BOOL[:0], none).shape == measure(none, BOOL[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 3, 0), (2, 0, 0)])
def test_no_pixels(shape):
    none = np.zeros(shape, bool)
    for measure in (region_similarity, boundary_accuracy):
        assert measure(none, none).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: region_similarity(BOOL, LARGER),
            "`pred`, `target` to be bool or RLE (T, H, W) of one shape, but got bool (2, 4, 4), bool (2, 4, 5)",
        ),
        (lambda: boundary_accuracy(BOOL, BOOL, LARGER), "`void` to be bool or RLE (T, H, W) of one shape"),
        (lambda: boundary_accuracy(BOOL, BOOL.float()), "but got bool (2, 4, 4), float32 (2, 4, 4)"),
        (lambda: boundary_accuracy(BOOL.numpy().astype(np.uint8), RLES), "but got uint8 (2, 4, 4), RLE (2, 4, 4)"),
        (lambda: region_similarity(BOOL[0], BOOL[0]), "but got bool (4, 4), bool (4, 4)"),
        (lambda: region_similarity(RLES, LARGER), "but got RLE (2, 4, 4), bool (2, 4, 5)"),
        (lambda: region_similarity(BitMasks.of(LARGER), RLES), "but got bool (2, 4, 5), RLE (2, 4, 4)"),
        (lambda: region_similarity(RLES[:1], RLES), "but got RLE (1, 4, 4), RLE (2, 4, 4)"),
        (lambda: region_similarity([None], [None]), "but got RLE (1,), RLE (1,)"),
        (
            lambda: region_similarity(RLES, [RLES[0], {"size": [4, 5], "counts": [20]}]),
            "`target`: Expected masks of one size, but got [(4, 4), (4, 5)]",
        ),
        (
            lambda: region_similarity(RLES, [RLES[0], RLES[0] | {"counts": "0"}]),
            "`target`: Expected the runs of an RLE to fill 4 x 4 pixels, but got 0",
        ),
        (lambda: region_similarity([{"counts": "P8"}], RLES), "`pred`: Expected an RLE with `size`"),
        (lambda: robustness(BOOL.byte(), BOOL, BOOL), "`foreground` to be bool or RLE (T, H, W) of one shape, but got"),
        (lambda: robustness(BOOL, BOOL, LARGER), "`foreground` to be bool or RLE (T, H, W) of one shape"),
        (lambda: robustness(BOOL, BOOL, LARGER, True), "bool (2, 4, 4), bool (2, 4, 4), bool (2, 4, 5)"),
        (lambda: robustness(BOOL.int(), BOOL, BOOL, True), "to be bool or uint8 or RLE (T, H, W) of one shape"),
        (lambda: accuracy(BOOL, LARGER.byte(), True), "but got bool (2, 4, 4), uint8 (2, 4, 5)"),
        (lambda: accuracy(BOOL, BOOL.byte()), "but got bool (2, 4, 4), uint8 (2, 4, 4)"),
    ],
)
def test_errors_name_every_argument(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
