import itertools

import numpy as np
import pytest
import torch

from evaluation.functional import (
    THRESHOLDS,
    BitMasks,
    assigned_scores,
    average_precision,
    boundary_accuracy,
    found_tracks,
    official_average_precision,
    region_similarity,
    track_iou,
    without_overlaps,
)


def strip(start, stop, frames=1):
    """A track of 20 pixels per frame, masked from one to another."""
    pixels = torch.arange(20)
    return ((pixels >= start) & (pixels < stop)).expand(frames, 1, 20)


def test_track_iou_sums_over_frames():
    pred = torch.cat([strip(0, 10), strip(0, 2)])
    target = torch.cat([strip(0, 10), strip(0, 10)])
    # 10 + 2 shared of 10 + 10; the mean of J would be 0.6 as well only by chance of the areas: 1 and 0.2
    assert track_iou([pred, target], [target, ~target]).tolist() == [[0.6, 0.0], [1.0, 0.0]]
    assert track_iou([torch.cat([strip(0, 20), strip(0, 1)])], [strip(0, 20, 2)]).item() == 21 / 40


def test_two_empty_tracks_are_no_match():
    assert track_iou([strip(0, 0)], [strip(0, 0)]).item() == 0


def test_an_object_is_found_once():
    iou = torch.tensor([[0.9], [0.95]], dtype=torch.float64)
    found = found_tracks(iou)
    assert found.sum(dim=1).tolist() == [1] * 10
    assert found_tracks(iou[:1]).sum(dim=1).tolist() == [1] * 9 + [0]


def test_as_many_as_can_find_an_object_do():
    # the first could take either; taking the last free one, as the tool does, leaves the second without
    iou = torch.tensor([[0.5, 0.5], [0.0, 0.5]], dtype=torch.float64)
    assert found_tracks(iou)[0].tolist() == [True, True]
    assert found_tracks(iou, official=True)[0].tolist() == [True, False]


@pytest.mark.parametrize("step", range(10, 20))
def test_exactly_the_threshold_is_enough(step):
    iou = track_iou([strip(0, step)], [strip(0, 20)])
    assert iou.item() == THRESHOLDS[step - 10]
    for official in (False, True):
        found = found_tracks(iou, official).flatten().tolist()
        # in the tool, .7 and some others of its thresholds are a rounding error above what float32 makes of the IoU
        expected = [float(np.float32(step / 20)) >= t for t in np.arange(0.5, 0.95 + 1e-4, 0.05)]
        assert found == (expected if official else [t <= step / 20 for t in THRESHOLDS])


def test_ten_tracks_are_looked_at():
    iou = torch.zeros(12, 1, dtype=torch.float64)
    iou[10] = 1
    assert found_tracks(iou).shape == (10, 10)
    assert not found_tracks(iou).any()
    assert found_tracks(iou[:, :0]).shape == (10, 10)
    assert found_tracks(iou[:, :0], official=True).shape == (10, 12)
    assert found_tracks(iou[:0]).shape == (10, 0)


def test_average_precision_is_precision_times_recall():
    assert average_precision(torch.tensor([3]), tracks=4, objects=6).item() == pytest.approx(3 / 4 * 3 / 6)
    assert average_precision(torch.tensor([0]), 0, 6).item() == 0
    assert average_precision(torch.tensor([0]), 4, 0).item() == 0
    assert average_precision(torch.tensor([0]), 0, 0).isnan()


@pytest.mark.parametrize(
    ("found", "objects", "expected"),
    [
        # recall 1/2 at precision 1, then 1 at precision 2/3
        ([True, False, True], 2, 0.5 * 1 + 0.5 * 2 / 3),
        # the same tracks in another order: recall 1/2 at 1/2, raised to 2/3 by what comes after
        ([False, True, True], 2, 2 / 3),
        ([True, True], 4, 0.5),
        ([False], 3, 0),
        ([], 3, 0),
        ([False, False], 0, 1),
    ],
)
def test_official_average_precision_depends_on_the_order(found, objects, expected):
    got = official_average_precision(torch.tensor([found], dtype=torch.bool).reshape(1, -1), objects)
    assert got.item() == pytest.approx(expected, abs=1e-7)
    assert got.item() == np.float32(got.item())


def test_proposals_are_assigned_to_objects_by_the_best_sum():
    objects = [strip(0, 6, 3), strip(8, 14, 3)]
    proposals = [strip(9, 14, 3), strip(0, 0, 3), strip(0, 5, 3)]
    scores = assigned_scores(proposals, objects)
    assert scores.similarity.shape == scores.accuracy.shape == (2, 3)
    for number, proposal in enumerate((2, 0)):
        assert torch.equal(scores.similarity[number], region_similarity(proposals[proposal], objects[number]))
        assert torch.equal(scores.accuracy[number], boundary_accuracy(proposals[proposal], objects[number]))


def test_assignment_against_every_permutation():
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 3):
        proposals, objects, (void,) = (
            list(torch.rand(number, 2, 9, 11, generator=generator) < 0.4) for number in (3, count, 1)
        )
        best = max(
            sum(
                (
                    region_similarity(proposals[p], each, void).mean()
                    + boundary_accuracy(proposals[p], each, void).mean()
                )
                for p, each in zip(chosen, objects, strict=True)
            )
            for chosen in itertools.permutations(range(3), count)
        )
        scores = assigned_scores(proposals, objects, void)
        assert (scores.similarity.mean(1) + scores.accuracy.mean(1)).sum().item() == pytest.approx(best.item())


def test_objects_without_a_proposal_are_empty():
    scores = assigned_scores([strip(0, 6)], [strip(8, 14), strip(0, 6), strip(0, 0)])
    assert scores.similarity.flatten().tolist() == [0, 1, 1]  # nothing is right where nothing is
    assert assigned_scores([], [strip(0, 6)]).similarity.item() == 0
    assert assigned_scores([strip(0, 6)], []).similarity.shape == (0, 1)


def test_missing_frames_of_a_proposal():
    scores = assigned_scores([strip(0, 6, 2), strip(8, 14, 2)], [strip(8, 14, 2), strip(0, 6, 2)], missing=[[0], []])
    assert scores.similarity.tolist() == scores.accuracy.tolist() == [[1, 1], [0, 1]]


def test_an_earlier_track_keeps_shared_pixels():
    tracks = [BitMasks.of(each) for each in (strip(0, 6), strip(4, 10), strip(2, 12))]
    assert [each.dense().sum().item() for each in without_overlaps(tracks)] == [6, 4, 2]
    assert without_overlaps([]) == []


def test_errors():
    with pytest.raises(ValueError, match="at most 20 proposals for a video, but got 21"):
        assigned_scores([strip(0, 1)] * 21, [strip(0, 1)])
    for measure in (track_iou, assigned_scores):
        with pytest.raises(
            ValueError, match=r"`pred\[0\]`, `target\[0\]` to be .* got bool \(1, 1, 20\), bool \(2, 1, 20\)"
        ):
            measure([strip(0, 1)], [strip(0, 1, 2)])


def test_runs_without_a_size_are_empty_masks_of_the_others():
    rle = {"size": [2, 2], "counts": [1, 3]}
    assert track_iou([[None], [rle]], [[rle]]).tolist() == [[0.0], [1.0]]
    assert track_iou([[rle]], [[None]]).tolist() == [[0.0]]
