"""The trivial baseline is exactly its boxes."""

from collections.abc import Callable

import pytest
import torch

from models.segmenters import Segmenter, StillSegmenter
from models.segmenters.still import covered_pixels
from tests.models import contract


@pytest.mark.parametrize("check", [*contract.CHECKS, contract.check_prompt_is_reproduced])
def test_contract(check: Callable[[Segmenter], None]) -> None:
    check(StillSegmenter())


def test_repeats_the_box_on_every_frame() -> None:
    frames = torch.zeros(3, 3, 10, 12, dtype=torch.uint8)
    masks = StillSegmenter()(frames, [contract.prompt(1, [2.0, 3.0, 7.0, 9.0], [10.0, 8.0, 40.0, 40.0])], [0, 2])[0]
    expected = torch.zeros(2, 2, 10, 12, dtype=torch.bool)
    expected[0, :, 3:9, 2:7] = True
    expected[1, :, 8:10, 10:12] = True
    assert torch.equal(masks, expected)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param([2, 3, 7, 9], (2, 3, 7, 9), id="whole pixels"),
        # the centre of column 2 is at 2.5, which a box from 2.6 does not cover and a box up to 2.6 does
        pytest.param([2.6, 0, 5, 5], (3, 0, 5, 5), id="centre before the box"),
        pytest.param([0, 0, 2.6, 5], (0, 0, 3, 5), id="centre inside the box"),
        pytest.param([2.5, 0, 4.5, 5], (2, 0, 4, 5), id="half-open"),
        pytest.param([-9, -9, 99, 99], (0, 0, 12, 10), id="larger than the frame"),
        pytest.param([2.6, 0, 3.4, 5], (0, 0, 0, 0), id="between two centres"),
        pytest.param([7, 3, 2, 9], (0, 0, 0, 0), id="inverted"),
        pytest.param([12, 0, 15, 5], (0, 0, 0, 0), id="outside"),
        pytest.param([0, float("nan"), 5, 5], (0, 0, 0, 0), id="not a number"),
    ],
)
def test_covered_pixels(box: list[float], expected: tuple[int, int, int, int]) -> None:
    assert covered_pixels(box, (10, 12)) == expected
