import pytest
import torch

from evaluation.functional import no_target_accuracy, target_accuracy, temporal_iou, video_iou


def film(*areas):
    """A frame of four pixels per number, of which the first so many are masked."""
    return torch.arange(4).view(1, 1, 4) < torch.tensor(areas).view(-1, 1, 1)


@pytest.mark.parametrize(
    ("pred", "target", "tiou", "viou"),
    [
        pytest.param((4, 4), (4, 4), 1, 1, id="same"),
        pytest.param((0, 0), (0, 0), 1, 1, id="nothing_and_nothing"),
        pytest.param((0, 0), (4, 4), 0, 0, id="nothing_said"),
        pytest.param((4, 4), (0, 0), 0, 0, id="nothing_there"),
        pytest.param((1, 2), (4, 4), 1, (1 / 4 + 1 / 2) / 2, id="right_times"),
        # both in frame 1 alone, one of them in 0, 1 and 2; J of frame 1 is 2 / 4
        pytest.param((1, 2, 0, 0), (0, 4, 4, 0), 1 / 3, 1 / 6, id="overlap"),
    ],
)
def test_closed_forms(pred, target, tiou, viou):
    assert temporal_iou(film(*pred), film(*target)).item() == pytest.approx(tiou)
    assert video_iou(film(*pred), film(*target)).item() == pytest.approx(viou)
    assert temporal_iou(film(*target), film(*pred)).item() == pytest.approx(tiou)


def test_frames_that_count_as_wrong():
    pred, target = film(4, 4, 0, 0), film(4, 4, 0, 0)
    # frame 1 would be empty where the target is there, frame 3 the reverse: 1 of 3
    assert temporal_iou(pred, target, wrong=[1, 3]).item() == pytest.approx(1 / 3)
    assert video_iou(pred, target, wrong=[1, 3]).item() == pytest.approx(1 / 3)
    assert temporal_iou(pred, target, wrong=range(4)).item() == 0


@pytest.mark.parametrize(
    ("areas", "wrong", "nothing", "something"),
    [((0, 0), (), 1, 0), ((0, 1), (), 0, 1), ((4, 4), (), 0, 1), ((0, 0), (1,), 0, 0), ((1, 0), (0,), 0, 0)],
)
def test_is_there_a_target(areas, wrong, nothing, something):
    assert no_target_accuracy(film(*areas), wrong).item() == nothing
    assert target_accuracy(film(*areas), wrong).item() == something


def test_numbers_are_double_and_shapes_are_compared():
    for measure in (temporal_iou, video_iou):
        assert measure(film(1), film(1)).dtype == torch.float64
        with pytest.raises(ValueError, match=r"one shape, but got .*\(1, 1, 4\).*\(2, 1, 4\)"):
            measure(film(1), film(1, 2))


def test_runs_of_which_none_says_a_size_mask_nothing():
    assert no_target_accuracy([None, None]) == 1
    assert target_accuracy([None, None]) == 0
    assert no_target_accuracy([None, None], wrong=[1]) == 0


def test_errors_about_an_answer_name_it():
    with pytest.raises(ValueError, match="`pred`"):
        no_target_accuracy(torch.zeros(2, 1, 1))
