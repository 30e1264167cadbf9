import pytest
import torch

from evaluation.drawing import BOX, PREDICTION, TRUTH
from lightning_modules.pictures import episode_strip, film, frame_picture, group_picture
from tests.evaluation.test_drawing import near
from tests.lightning_modules.episodes import failed_episode, group_of_two, moving_square, perfect_episode


def test_boxes_are_drawn_on_the_keyframe_only():
    episode = perfect_episode(keyframe=2)
    assert [bool(near(frame_picture(episode, time), BOX).any()) for time in range(5)] == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_hidden_annotation_has_no_outline():
    episode = perfect_episode(keyframe=2)
    episode.sample.masks = None
    assert not near(frame_picture(episode, 0), TRUTH).any()
    assert near(frame_picture(episode, 0), PREDICTION, 90).any()


def test_failed_segmenter_leaves_the_truth():
    picture = frame_picture(failed_episode(), 0)
    assert near(picture, TRUTH).any()
    assert not near(picture, PREDICTION, 90).any()


def test_masks_belong_to_their_times():
    episode = perfect_episode(keyframe=2)
    episode.sample.masks = None
    episode.last.mask_frames = [0, 4]
    episode.last.masks = episode.last.masks[:, [0, 4]]
    drawn = [bool(near(frame_picture(episode, time), PREDICTION, 90).any()) for time in range(5)]
    assert drawn == [True, False, False, False, True]
    columns = near(frame_picture(episode, 4), PREDICTION, 90).nonzero()[:, 1].double()
    # the square covers columns 16 to 28 of 48 in the last frame; the picture is 224 wide
    assert columns.mean().item() == pytest.approx(22 * 224 / 48 - 0.5, abs=3)


def test_group_picture_has_a_row_per_answer():
    group, scores = group_of_two()
    picture = group_picture(group, scores, side=64)
    alone = episode_strip(group[0], "reward 1.75", {"form": "1.00"}, side=64)
    assert picture.dtype == torch.uint8
    assert picture.shape[-2] > 2 * alone.shape[-2]
    assert near(picture, BOX).any()


def test_film_shows_every_segmented_frame_in_one_size():
    pictures = list(film(perfect_episode(moving_square(4), keyframe=1), side=64))
    assert len(pictures) == 4
    assert len({picture.shape for picture in pictures}) == 1
    assert not torch.equal(pictures[0], pictures[3])
