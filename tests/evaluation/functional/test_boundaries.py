import json

import numpy as np
import pytest
import torch

from evaluation.functional import (
    BitMasks,
    boundary_accuracy,
    boundary_counts,
    boundary_radius,
    region_similarity,
)
from tests.evaluation.functional import plain
from tests.golden import FOLDER

GOLDEN = {frame["desc"]: frame for frame in json.loads((FOLDER / "jf_golden.json").read_text())["frames"]}


@pytest.mark.parametrize("frame", GOLDEN.values(), ids=GOLDEN)
def test_the_plain_definition_is_the_official_one(frame):
    """What ours is compared with is itself compared, with what ten public evaluators say."""
    masks = (BitMasks.of([frame[name]]).dense()[0].numpy() for name in ("pred", "gt", "void") if frame[name])
    names = ("inter", "union", "n_pred_boundary", "n_gt_boundary", "n_pred_match", "n_gt_match")
    expected = plain.counts(*masks)
    assert expected == [frame[name] for name in names]
    assert plain.accuracy(*expected[2:]) == frame["F"]


@pytest.mark.parametrize("radius", [31, 32, 33, 62, 63, 64, 65, 70, 127, 128, 129, 400])
def test_reach_across_words(radius):
    """Columns are packed into words of 64 pixels; the reach crosses the borders of one to six of them."""
    generator = np.random.default_rng(radius)
    for _ in range(20):
        pred, target = generator.random((2, 300, 60)) < generator.choice([0.0001, 0.0005, 0.005])
        got = boundary_counts(pred[None], target[None], tolerance=radius)
        a, b = (np.argwhere(plain.boundary(mask)) for mask in (pred, target))
        near = ((a[:, None] - b[None]) ** 2).sum(-1) <= radius**2
        expected = [len(a), len(b), near.any(1).sum(), near.any(0).sum()]
        assert [count.item() for count in got] == expected


def test_batch_is_frame_by_frame():
    generator = np.random.default_rng(1)
    pred, target, void = generator.random((3, 6, 40, 50)) < 0.3
    for measure in (region_similarity, boundary_accuracy):
        together = measure(pred, target, void)
        assert together.dtype == torch.float64
        alone = [measure(pred[t : t + 1], target[t : t + 1], void[t : t + 1]).item() for t in range(6)]
        assert together.tolist() == alone
        assert measure(*map(torch.from_numpy, (pred, target, void))).tolist() == alone


def square(top, left, side, size=32):
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[:, top : top + side, left : left + side] = True
    return mask


EMPTY, FULL = square(0, 0, 0), square(0, 0, 32)


@pytest.mark.parametrize(
    ("pred", "target", "similarity", "accuracy"),
    [
        pytest.param(EMPTY, EMPTY, 1, 1, id="both_empty"),
        pytest.param(FULL, FULL, 1, 1, id="both_full"),
        pytest.param(FULL, EMPTY, 0, 1, id="full_against_empty_has_no_boundary"),
        pytest.param(square(8, 8, 8), EMPTY, 0, 0, id="nothing_there"),
        pytest.param(EMPTY, square(8, 8, 8), 0, 0, id="nothing_predicted"),
        pytest.param(square(8, 8, 8), square(8, 8, 8), 1, 1, id="same"),
        # 8 x 8 moved by 4: 32 shared of 96
        pytest.param(square(8, 8, 8), square(8, 12, 8), 1 / 3, None, id="half"),
        # one pixel to the right is within the radius of 1
        pytest.param(square(8, 8, 8), square(8, 9, 8), 56 / 72, 1, id="within_reach"),
        pytest.param(square(2, 2, 4), square(20, 20, 4), 0, 0, id="far"),
    ],
)
def test_closed_form(pred, target, similarity, accuracy):
    assert region_similarity(pred, target).item() == similarity
    assert accuracy is None or boundary_accuracy(pred, target).item() == accuracy


@pytest.mark.parametrize(
    ("top", "left", "expected"),
    [(8, 8, 4), (0, 0, 1), (0, 31, 2), (31, 0, 2), (31, 31, 3)],
    ids=["interior", "top_left", "top_right", "bottom_left", "bottom_right"],
)
def test_boundary_of_one_pixel(top, left, expected):
    assert boundary_counts(square(top, left, 1), EMPTY).pred.item() == expected


def test_identities():
    generator = np.random.default_rng(4)
    pred, target = (torch.from_numpy(generator.random((4, 48, 64)) < 0.4) for _ in range(2))
    for measure in (region_similarity, boundary_accuracy):
        torch.testing.assert_close(measure(pred, target), measure(target, pred))
        torch.testing.assert_close(measure(pred.mT, target.mT), measure(pred, target))
        assert measure(pred, pred).tolist() == [1, 1, 1, 1]
    assert measure(pred, target, torch.ones_like(pred)).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("top", "left", "expected"), [(8, 0, 2), (8, 31, 4), (0, 8, 2), (31, 8, 4)], ids=["left", "right", "top", "bottom"]
)
def test_boundary_is_not_symmetric_under_flips(top, left, expected):
    assert boundary_counts(square(top, left, 1), EMPTY).pred.item() == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((80, 96), 1), ((120, 160), 2), ((480, 854), 8), ((720, 1280), 12), ((1080, 1920), 18)],
)
def test_boundary_radius(size, expected):
    assert boundary_radius(*size) == expected
    assert boundary_radius(*size, tolerance=3.0) == 3
