import pytest
import torch

from rewards import KeyframeArea
from tests.builders import moving_square, two_squares, video_sample
from tests.rewards.attempts import attempt

# two_squares: areas are 64 in the first half and 64 + 120 in the second
SMALL = 64 / 184


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(("keyframe", "score"), [(0, SMALL), (2, SMALL), (3, 1), (5, 1), (None, 0)])
def test_area_relative_to_the_largest(keyframe, score, released):
    reward = KeyframeArea(released=released, canvas=64)  # twice the size of the frames: ratios stay
    assert reward.score(attempt(video_sample(two_squares()), keyframe)) == pytest.approx(score)


def test_only_shown_frames_count():
    sample = video_sample(two_squares())
    assert KeyframeArea().score(attempt(sample, 1, shown=[0, 1])) == 1
    assert KeyframeArea().score(attempt(sample, 4, shown=[0, 1])) == 0  # was not shown
    assert KeyframeArea(released=True).score(attempt(sample, 1, shown=[0, 1])) == pytest.approx(SMALL)


def test_without_a_target_no_frame_is_better():
    episode = attempt(video_sample(torch.zeros_like(moving_square())))
    assert KeyframeArea().score(episode) is None
    assert KeyframeArea(released=True).score(episode) == 0
