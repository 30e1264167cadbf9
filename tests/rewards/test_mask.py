import pytest
import torch

from rewards import MaskConsistency
from tests.builders import moving_square, two_squares, video_sample
from tests.rewards.attempts import attempt, filled

MOVER, FAR, LATE = [0, 4, 8, 12], [28, 24, 32, 32], [2, 20, 14, 30]


def test_true_masks_are_consistent():
    masks = two_squares()
    episode = attempt(video_sample(masks), 3, [[6, 4, 14, 12], LATE], masks)
    for reward in (MaskConsistency(), MaskConsistency(matching="matched"), MaskConsistency(released=True, canvas=32)):
        assert reward.score(episode) == 1


def test_mean_over_frames():
    # The square moves by 2 of its 8 columns a frame: overlaps of 8, 6, 4, 2, 0, 0 columns, unions of 8, 10, 12, 14 …
    episode = attempt(video_sample(moving_square()), 0, [MOVER], filled(MOVER))
    expected = (1 + 6 / 10 + 4 / 12 + 2 / 14) / 6
    assert MaskConsistency().score(episode) == pytest.approx(expected)
    assert MaskConsistency(released=True, canvas=64).score(episode) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("released", "matching", "score"),
    [
        (False, None, 64 / 96),  # the surplus box has 32 pixels on every frame
        (False, "matched", 1),
        (True, None, 1),
        (True, "all", 64 / 96),
    ],
)
def test_surplus_boxes_cost_if_all_are_united(released, matching, score):
    sample = video_sample(filled(MOVER))
    episode = attempt(sample, 0, [FAR, MOVER], torch.cat([filled(FAR), filled(MOVER)]))
    assert MaskConsistency(released, matching, canvas=32).score(episode) == pytest.approx(score)


def test_frames_without_anything_are_left_out():
    late = two_squares()[1:]  # absent in the first half
    plane = late.clone()
    plane[:, 3, 25:30] = False  # half of it on one frame
    episode = attempt(video_sample(late), 4, [LATE], plane)
    assert MaskConsistency().score(episode) == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert MaskConsistency(released=True, canvas=32).score(episode) == pytest.approx((3 + 1 / 2 + 1 + 1) / 6)


@pytest.mark.parametrize(
    ("given", "repaired", "released"),
    [
        ({"keyframe": None}, 0, 0),
        ({"boxes": [], "masks": torch.zeros(0, 6, 32, 32, dtype=torch.bool)}, 0, 0),
        ({"boxes": [MOVER], "failure": "out of memory"}, None, 0),
        ({"boxes": [MOVER], "masks": filled(FAR)}, 0, 0),
    ],
    ids=["no keyframe", "no boxes", "failure", "elsewhere"],
)
def test_edges(given, repaired, released):
    episode = attempt(video_sample(moving_square()), **given)
    assert MaskConsistency().score(episode) == repaired
    assert MaskConsistency(released=True, canvas=32).score(episode) == released


def test_agreeing_on_nothing_is_not_scored():
    episode = attempt(video_sample(torch.zeros_like(moving_square())), 0, [FAR], torch.zeros_like(moving_square()))
    assert MaskConsistency().score(episode) is None
    assert MaskConsistency(released=True, matching="all", canvas=32).score(episode) == 1


def test_masks_have_to_be_asked_for():
    assert MaskConsistency.needs_masks
    with pytest.raises(ValueError, match="the segmenter was not asked"):
        MaskConsistency().score(attempt(video_sample(), 0, [MOVER]))


def test_matching_is_checked():
    with pytest.raises(ValueError, match="`matching` to be 'all' or 'matched', but got 'some'"):
        MaskConsistency(matching="some")
