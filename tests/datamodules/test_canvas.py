import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.canvas import from_canvas, to_canvas


@pytest.mark.parametrize(
    ("box", "size", "canvas", "expected"),
    [
        # one pixel at the origin of 56 x 56: scale 10, first and last pixel are 0
        pytest.param([0, 0, 1, 1], (56, 56), 560, [0.5, 0.5, 0.5, 0.5], id="one pixel"),
        # x: 3 * 5.6 + 0.5, (10 - 1) * 5.6 + 0.5; y: 4 * 28 / 3 + 0.5, 19 * 28 / 3 + 0.5
        pytest.param([3, 4, 10, 20], (60, 100), 560, [17.3, 112 / 3 + 0.5, 50.9, 532 / 3 + 0.5], id="not square"),
        pytest.param([0, 0, 100, 50], (50, 100), 1000, [0.5, 0.5, 990.5, 980.5], id="whole frame on 1000"),
    ],
)
def test_to_canvas(box, size, canvas, expected):
    on_canvas = to_canvas(torch.tensor([box], dtype=torch.float32), size, canvas)
    assert on_canvas.dtype == torch.float64
    assert on_canvas.tolist() == [pytest.approx(expected, abs=1e-12)]


@given(
    st.lists(st.lists(st.floats(-2000, 2000), min_size=4, max_size=4), max_size=3),
    st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    st.sampled_from([100, 560, 1000]),
)
def test_inverse(boxes, size, canvas):
    boxes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    assert torch.allclose(from_canvas(to_canvas(boxes, size, canvas), size, canvas), boxes, atol=1e-9, rtol=0)


@pytest.mark.parametrize("convert", [to_canvas, from_canvas])
@pytest.mark.parametrize(
    ("shape", "size", "canvas", "message"),
    [
        pytest.param((4,), (5, 5), 560, "shape", id="no axis of boxes"),
        pytest.param((1, 5), (5, 5), 560, "shape", id="five numbers"),
        pytest.param((1, 4), (0, 5), 560, "positive", id="no height"),
        pytest.param((1, 4), (5, 5), -1, "positive", id="negative canvas"),
    ],
)
def test_errors(convert, shape, size, canvas, message):
    with pytest.raises(ValueError, match=message):
        convert(torch.zeros(shape), size, canvas)
