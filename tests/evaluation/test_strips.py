import pytest
import torch

from evaluation.drawing import BOX
from evaluation.strips import framed, strip_times


@pytest.mark.parametrize(
    ("times", "wanted", "max_frames", "expected"),
    [
        pytest.param(range(5), 2, 6, [0, 1, 2, 3, 4], id="all fit"),
        pytest.param(range(31), None, 4, [0, 10, 20, 30], id="evenly spaced"),
        pytest.param(range(31), 19, 4, [0, 10, 19, 30], id="wanted replaces its neighbour"),
        pytest.param([0, 4, 8], 5, 6, [0, 4, 5, 8], id="wanted that was not segmented"),
        pytest.param(range(31), 7, 1, [7], id="wanted only"),
        pytest.param([3], None, 6, [3], id="one frame"),
    ],
)
def test_strip_times(times, wanted, max_frames, expected):
    assert strip_times(times, wanted, max_frames) == expected


def test_a_marked_picture_has_an_edge():
    picture = torch.full((3, 20, 30), 100, dtype=torch.uint8)
    plain, marked = (framed(picture, "frame 1", each) for each in (False, True))
    assert (
        plain.shape == marked.shape == framed(picture, "a long label, which is cut", marked=False).shape == (3, 44, 36)
    )
    assert marked[:, -1, 0].tolist() == list(BOX)
    assert torch.equal(plain[:, -23:-3, 3:33], picture)
    assert torch.equal(marked[:, -23:-3, 3:33], picture)
