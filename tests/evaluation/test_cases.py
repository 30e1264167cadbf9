import pytest
import torch

from datamodules import LazyStack
from evaluation import Prediction, Truth
from evaluation.cases import scored_times
from evaluation.functional import BitMasks
from tests.builders import two_squares, video_sample


def test_truth_of_a_sample_is_of_the_frames_that_count():
    masks = two_squares()
    void, foreground = (LazyStack.of(torch.rand(6, 32, 32) < 0.5) for _ in range(2))
    sample = video_sample(masks, scored=[1, 4], void=void, foreground=foreground)
    assert scored_times(sample) == [1, 4]
    truth = Truth.of(sample)
    assert truth.shape == (2, 32, 32)
    assert [torch.equal(each.dense(), masks[n, [1, 4]]) for n, each in enumerate(truth.objects)] == [True, True]
    assert torch.equal(truth.target.dense(), masks[:, [1, 4]].any(dim=0))
    assert torch.equal(truth.void.dense(), void.stack([1, 4]))
    assert torch.equal(truth.foreground.dense(), foreground.stack([1, 4]))


def test_truth_of_all_frames():
    truth = Truth.of(video_sample(two_squares(), foreground=None))
    assert truth.shape == (6, 32, 32)
    assert (truth.void, truth.foreground) == (None, None)


def test_a_sample_without_objects_has_an_empty_target():
    truth = Truth.of(video_sample(torch.zeros(0, 6, 32, 32, dtype=torch.bool), frames=torch.zeros(6, 3, 32, 32)))
    assert truth.objects == []
    assert not truth.target.areas().any()


def test_a_hidden_annotation_is_no_truth():
    sample = video_sample()
    sample.masks = None
    with pytest.raises(ValueError, match="Expected masks for 'video/0', but its annotation is hidden; use `predict`"):
        Truth.of(sample)


def test_predictions_for_several_expressions_as_one():
    masks = BitMasks.of(two_squares()[0])
    shape = masks.shape
    found = Prediction(shape, [masks, masks], missing=(1, 2))
    lost = Prediction(shape, [], missing=tuple(range(6)), lost="video")
    both = Prediction.together([found, lost])
    assert (both.missing, both.lost, both.parts) == ((1, 2), None, (found, lost))
    assert [bool(track.areas().any()) for track in both.tracks] == [True, False]
    assert Prediction.together([lost, Prediction(shape, [], tuple(range(6)), "expression")]).lost == "expression"
    assert Prediction.together([found]) is found
