import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torchvision.ops import box_iou as reference

from rewards.functional import box_iou, mask_iou, match, resize_nearest

NAN = float("nan")
corners = st.lists(st.integers(0, 50), min_size=4, max_size=4)


def tensor(boxes):
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


@pytest.mark.parametrize(
    ("box", "target", "half_open", "inclusive"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4], 1, 1),
        ([0, 0, 4, 4], [2, 0, 6, 4], 8 / 24, 15 / 35),  # (2 x 4) / (16 + 16 - 8); (3 x 5) / (25 + 25 - 15)
        ([0, 0, 4, 4], [4, 0, 8, 4], 0, 5 / 45),  # touching boxes share a column only if it is counted twice
        ([0, 0, 4, 4], [5, 0, 8, 4], 0, 0),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0, 1),  # no area, or one pixel by convention
        ([0, 0, 0, 0], [0, 0, 1, 1], 0, 1 / 4),
        ([4, 4, 0, 0], [0, 0, 4, 4], 0, 0),  # inverted
        ([4, 4, 0, 0], [4, 4, 0, 0], 0, 0),
        ([-2, 0, 2, 4], [0, 0, 2, 4], 1 / 2, 15 / 25),
        ([0, 0, float("inf"), float("inf")], [0, 0, 4, 4], 0, 0),
    ],
)
def test_box_iou(box, target, half_open, inclusive):
    assert box_iou(tensor(box), tensor(target)).item() == pytest.approx(half_open)
    assert box_iou(tensor(box), tensor(target), inclusive=True).item() == pytest.approx(inclusive)


@hypothesis.given(st.lists(corners, max_size=4), st.lists(corners, max_size=4))
def test_box_iou_is_torchvisions(boxes, targets):
    def ordered(rows):
        return tensor([[min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1] for a, b, c, d in rows])

    ours = box_iou(ordered(boxes), ordered(targets))
    torch.testing.assert_close(ours, reference(ordered(boxes), ordered(targets)))
    assert ((ours >= 0) & (ours <= 1)).all()


@pytest.mark.parametrize(
    ("iou", "rows", "columns", "score"),
    [
        ([[0.9, 0.8], [0.7, 0.1]], [0, 1], [1, 0], 1.5 / 2),  # greedy would take 0.9 + 0.1
        ([[0.2], [0.6], [0.4]], [1], [0], 0.6 / 3),
        ([[0.2, 0.6, 0.4]], [0], [1], 0.6 / 3),
    ],
)
def test_match(iou, rows, columns, score):
    matching = match(torch.tensor(iou, dtype=torch.float64))
    assert (matching.rows, matching.columns) == (rows, columns)
    assert matching.score == pytest.approx(score)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)], ids=str)
def test_nothing_matches_nothing(shape):
    assert match(torch.zeros(shape, dtype=torch.float64)) == ([], [], 0.0)


@hypothesis.given(st.lists(corners, min_size=1, max_size=5), st.lists(corners, min_size=1, max_size=5), st.randoms())
def test_match_does_not_depend_on_the_order(boxes, targets, random):
    score = match(box_iou(tensor(boxes), tensor(targets), inclusive=False)).score
    random.shuffle(boxes)
    random.shuffle(targets)
    assert match(box_iou(tensor(boxes), tensor(targets))).score == pytest.approx(score)
    assert 0 <= score <= 1


def test_mask_iou():
    masks = torch.tensor([[[1, 1, 0]], [[0, 0, 0]], [[0, 0, 0]], [[1, 0, 0]]], dtype=torch.bool)
    targets = torch.tensor([[[0, 1, 1]], [[0, 0, 0]], [[1, 1, 1]], [[1, 0, 0]]], dtype=torch.bool)
    ious = mask_iou(masks, targets)
    torch.testing.assert_close(ious, torch.tensor([1 / 3, NAN, 0, 1]), equal_nan=True)


def test_resize_nearest_takes_the_pixel_to_the_upper_left():
    mask = torch.tensor([[[True, False, True], [False, False, True]]])
    # rows 0 0 1 1 and columns 0 0 1 2 (floor of i * 3 / 4)
    expected = torch.tensor([[[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]]], dtype=torch.bool)
    assert torch.equal(resize_nearest(mask, 4), expected)
    assert torch.equal(resize_nearest(expected, 4), expected)
