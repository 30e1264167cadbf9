import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sampling import EveryFrame, StridedThroughAnchor, UniformSelection, largest, spaced_through

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "veason_dataset.json").read_text())


def never():
    raise AssertionError("areas were asked for")


def generator(*key):
    return np.random.default_rng(key)


def test_every_frame():
    assert EveryFrame()(never, 4, generator(0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("case", GOLDEN["eval_frame_sampling"], ids=lambda case: f"L={case['length']}")
def test_uniform_golden(case):
    assert UniformSelection(8)(never, case["length"], generator(0)) == case["frame_ids"]


@pytest.mark.parametrize("case", GOLDEN["frame_count_table"], ids=lambda case: f"num={case['num']} L={case['length']}")
def test_released_counts_golden(case):
    selection = StridedThroughAnchor(case["num"], released=True)
    counts = Counter(str(len(selection.through(anchor, case["length"]))) for anchor in range(case["length"]))
    assert counts == case["count_histogram_over_anchor"]


@given(st.integers(1, 200), st.integers(1, 12), st.data())
def test_released_rule(length, num_frames, data):
    anchor = data.draw(st.integers(0, length - 1))
    ids = StridedThroughAnchor(num_frames, released=True).through(anchor, length)
    assert anchor in ids
    assert len(ids) <= max(num_frames - 1, 1)
    if num_frames > 1:
        step = math.ceil(length / (num_frames - 1))
        assert ids == [time for time in range(length) if time % step == anchor % step]


@given(st.integers(1, 200), st.integers(1, 12), st.data())
def test_spaced_through(length, num_frames, data):
    anchor = data.draw(st.integers(0, length - 1))
    ids = spaced_through(anchor, length, num_frames)
    assert anchor in ids
    assert len(set(ids)) == len(ids) == min(num_frames, length)
    assert ids == sorted(ids)
    assert min(ids) >= 0
    assert max(ids) < length
    # evenly: neighbours are length / n apart, rounded down or up
    spacing = length / len(ids)
    assert all(math.floor(spacing) <= after - before <= math.ceil(spacing) for before, after in pairwise(ids))


def test_ties_go_to_the_earlier_frame():
    assert largest([3, 5, 5, 0, 5, 5, 5, 5], 5) == [1, 2, 4, 5, 6]
    assert largest([1, 2], 5) == [1, 0]


def test_anchor_is_drawn_uniformly_from_the_largest():
    areas = [9, 1, 8, 1, 7, 1, 6, 1, 5, 1]  # the largest are 0, 2, 4, 6, 8
    selection = StridedThroughAnchor(num_frames=1)
    anchors = Counter(selection(lambda: areas, 10, generator(0, seed))[0] for seed in range(1000))
    assert set(anchors) == {0, 2, 4, 6, 8}
    # 1000 draws of 5: each 200, standard deviation sqrt(1000 * 0.2 * 0.8) = 12.6
    assert all(150 < count < 250 for count in anchors.values())


@pytest.mark.parametrize(
    "make", [lambda: UniformSelection(0), lambda: StridedThroughAnchor(0), lambda: StridedThroughAnchor(6, 0)]
)
def test_errors(make):
    with pytest.raises(ValueError, match=r"to be at least 1, but got 0"):
        make()
