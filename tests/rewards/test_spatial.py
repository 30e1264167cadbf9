import pytest
import torch

from rewards import BoxIoU
from rewards.spatial import canvas_slots, match_boxes
from tests.builders import moving_square, two_squares, video_sample
from tests.rewards.attempts import attempt

MOVER, LATE = [0, 4, 8, 12], [2, 20, 14, 30]  # at time 0 and, the second, in the last half
ZERO = [0, 0, 0, 0]
FAR = [28, 0, 32, 4]


def at(time, box):
    """The box of the mover at another time: it moves two pixels to the right per frame."""
    return [box[0] + 2 * time, box[1], box[2] + 2 * time, box[3]]


@pytest.mark.parametrize(
    ("keyframe", "boxes", "score"),
    [
        (0, [MOVER], 1),  # the other object is absent, and no target
        (0, [MOVER, ZERO], 1 / 2),  # its dummy is a surplus box
        (0, [MOVER, FAR], 1 / 2),
        (0, [[4, 4, 12, 12]], 32 / 96),
        (0, [FAR], 0),
        (0, [], 0),
        (4, [LATE, at(4, MOVER)], 1),  # in any order
        (4, [at(4, MOVER)], 1 / 2),
        (4, [at(4, MOVER), at(4, MOVER)], 1 / 2),  # one box for one object
        (4, [], 0),
        (None, [MOVER], 0),
    ],
)
def test_mean_matched_iou(keyframe, boxes, score):
    assert BoxIoU().score(attempt(video_sample(two_squares()), keyframe, boxes)) == pytest.approx(score)


@pytest.mark.parametrize(
    ("shown", "boxes", "score"),
    [
        ([0, 1], [], 1),  # in no shown frame: naming none is right
        ([0, 1], [LATE], 0),
        ([0, 1, 4], [], 0),  # elsewhere: a frame without the target was the wrong choice
        ([0, 1, 4], [LATE], 0),
    ],
)
def test_frames_without_the_target(shown, boxes, score):
    sample = video_sample(two_squares()[1:])
    assert BoxIoU().score(attempt(sample, 0, boxes, shown=shown)) == score


# On the 32-pixel canvas of 32-pixel frames, canonical [x1, y1, x2, y2] is published as [x1, y1, x2 - 1, y2 - 1] + 0.5,
# and the published [0, 0, 0, 0] is read as [-0.5, -0.5, 0.5, 0.5].
DUMMY = [-0.5, -0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("keyframe", "boxes", "score"),
    [
        (0, [MOVER], 1 / 2),  # the slot of the absent object stays empty
        (0, [MOVER, DUMMY], 1),  # so that a dummy earns its half
        (0, [DUMMY], 1 / 2),
        (0, [[8, 4, 16, 12]], 0),
        (0, [[7, 4, 16, 12]], (8 / (64 + 72 - 8)) / 2),  # extents are those of the half-open boxes: +1 and -1 cancel
        (0, [], 0),
        (0, [MOVER, [0, 0, float("nan"), 1]], 0),  # as raised
        (0, [MOVER, [0, 0, float("inf"), 1]], 1 / 2),  # an infinite box has IoU 0 with everything
        (None, [MOVER], 0),
    ],
)
def test_released(keyframe, boxes, score):
    reward = BoxIoU(released=True, canvas=32)
    assert reward.score(attempt(video_sample(two_squares()), keyframe, boxes)) == pytest.approx(score)


def test_released_dummy_where_everything_is_absent():
    sample = video_sample(torch.zeros_like(two_squares()))
    assert BoxIoU(released=True, canvas=32).score(attempt(sample, 0, [DUMMY])) == 1
    assert BoxIoU(released=True, canvas=32).score(attempt(sample, 0, [])) == 0


def test_canvas_slots():
    sample = video_sample(two_squares())
    torch.testing.assert_close(
        canvas_slots(sample, 0, canvas=64), torch.tensor([[0.5, 8.5, 14.5, 22.5], ZERO], dtype=torch.float64)
    )
    assert canvas_slots(video_sample(torch.zeros_like(two_squares())), 0).tolist() == [ZERO]


def test_rows_of_the_matching_count_the_boxes():
    episode = attempt(video_sample(moving_square()), 0, [FAR, MOVER])
    for released in (False, True):
        matching = match_boxes(episode, released, canvas=32)
        assert matching is not None
        assert (matching.rows, matching.columns, matching.score) == ([1], [0], 0.5)
