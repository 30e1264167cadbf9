import pytest
import torch

from evaluation import drawing
from evaluation.drawing import BOX, INK, PAPER, PREDICTION, TRUTH


def blank(height=20, width=30, value=100):
    return torch.full((3, height, width), value, dtype=torch.uint8)


def square_mask(height=20, width=30):
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[5:15, 10:20] = True
    return mask


def near(picture, colour, tolerance=40):
    """Where a picture shows a colour, up to what scaling does to thin lines."""
    return ((picture.int() - torch.tensor(colour)[:, None, None]).abs() <= tolerance).all(dim=0)


def test_overlay_blends_inside_the_mask_only():
    frame, mask = blank(), square_mask()
    painted = drawing.overlay(frame, mask, (200, 0, 100), alpha=0.25)
    # 0.75 * 100 + 0.25 * (200, 0, 100) = (125, 75, 100)
    assert painted[:, 7, 12].tolist() == [125, 75, 100]
    assert torch.equal(painted[:, ~mask], frame[:, ~mask])
    assert (frame == 100).all(), "the frame itself must stay as it is"


@pytest.mark.parametrize(
    ("mask", "pixels"),
    [
        pytest.param(square_mask(), 10 * 10 - 6 * 6, id="ring of two pixels"),
        pytest.param(torch.zeros(20, 30, dtype=torch.bool), 0, id="empty"),
        pytest.param(torch.ones(20, 30, dtype=torch.bool), 20 * 30 - 16 * 26, id="full frame has its border"),
    ],
)
def test_mask_edge(mask, pixels):
    edge = drawing.mask_edge(mask, width=2)
    assert int(edge.sum()) == pixels
    assert not (edge & ~mask).any()


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        pytest.param([10.0, 5.0, 20.0, 15.0], 36, id="inside"),
        pytest.param([-1e300, -5.0, 1e300, 99.0], 2 * 30 + 2 * 18, id="larger than the frame"),
        pytest.param([20.0, 15.0, 10.0, 5.0], 0, id="corners swapped"),
        pytest.param([40.0, 5.0, 50.0, 15.0], 0, id="outside"),
    ],
)
def test_box_edge(box, pixels):
    assert int(drawing.box_edge(torch.tensor([box], dtype=torch.float64), (20, 30), width=1).sum()) == pixels


def test_box_is_half_open():
    edge = drawing.box_edge(torch.tensor([[10.0, 5.0, 20.0, 15.0]]), (20, 30), width=1)
    rows, columns = edge.nonzero().unbind(dim=1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 14, 10, 19)


def test_outline_has_a_dark_casing():
    drawn = drawing.outline(blank(), square_mask(), TRUTH, width=1)
    assert drawn[:, 5, 12].tolist() == list(TRUTH)
    assert drawn[:, 4, 12].tolist() == [40, 40, 40]  # 0.4 * 100 + 0.6 * 0
    assert drawn[:, 10, 15].tolist() == [100, 100, 100]


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (700, 1400), (1, 1)], ids=str)
def test_annotate_scales_to_the_side(size):
    picture = drawing.annotate(blank(*size), prediction=torch.ones(size, dtype=torch.bool), side=60)
    assert max(picture.shape[-2:]) == 60
    assert picture.shape[-2] / picture.shape[-1] == pytest.approx(size[0] / size[1])
    assert picture.dtype == torch.uint8


def test_annotate_draws_each_part_where_it_is():
    prediction, truth = torch.zeros(2, 32, 32, dtype=torch.bool)
    prediction[4:12, 4:12] = True
    truth[20:28, 20:28] = True
    picture = drawing.annotate(blank(32, 32), prediction, truth, torch.tensor([[20.0, 2.0, 30.0, 12.0]]), side=128)
    centres = {  # in pixels of the picture, four times those of the frame
        "prediction": (near(picture, PREDICTION, 90), 4 * 8, 4 * 8),
        "truth": (near(picture, TRUTH), 4 * 24, 4 * 24),
        "box": (near(picture, BOX), 4 * 7, 4 * 25),
    }
    for name, (where, row, column) in centres.items():
        rows, columns = where.nonzero().double().unbind(dim=1)
        assert (rows.mean().item(), columns.mean().item()) == pytest.approx((row - 0.5, column - 0.5), abs=1), name


@pytest.mark.parametrize(
    "text",
    ["", "word " * 500, "x" * 5000, "\x00\ud800\n\t\u202e中文 é → ★", "a\n\n\nb"],
    ids=lambda text: ascii(text[:8]),
)
def test_any_text_can_be_written(text):
    block = drawing.text_block(text, width=120, size=12, max_lines=3)
    lines = block.shape[-2] / round(1.35 * 12)
    assert block.shape[-1] == 120
    assert 1 <= lines <= 3
    assert lines == int(lines)


def test_text_stays_in_its_block_and_shows_what_it_leaves_out():
    short = drawing.text_block("one two", width=200)
    cut = drawing.text_block("one two " * 30, width=200, max_lines=1)
    assert near(short, INK).any()
    assert not near(short, INK)[:, 100:].any()
    assert near(cut, INK)[:, 150:].any()
    # Without the limit the same words take several lines.
    assert drawing.text_block("one two " * 30, width=200, max_lines=9).shape[-2] > 2 * cut.shape[-2]


def test_beside_and_above_keep_every_pixel():
    small, large = blank(4, 6, 10), blank(8, 5, 20)
    row, column = drawing.beside([small, large], gap=3), drawing.above([small, large], gap=3)
    assert row.shape == (3, 8, 6 + 3 + 5)
    assert column.shape == (3, 4 + 3 + 8, 6)
    for picture in (row, column):
        assert int((picture == 10).all(dim=0).sum()) == 24
        assert int((picture == 20).all(dim=0).sum()) == 40
    assert row[:, 7, 0].tolist() == list(PAPER)


def test_caption_of_equal_text_has_equal_size():
    first, second = (drawing.caption(blank(value=value), "a sentence", size=10) for value in (0, 255))
    assert first.shape == second.shape
    assert first.shape[-2] > 20
    assert torch.equal(first[:, 20:], second[:, 20:])
