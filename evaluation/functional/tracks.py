"""What is measured of several objects: which predicted track is which object, and how many are found."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from evaluation.functional.arguments import as_bits
from evaluation.functional.bitmasks import BitMasks, Masks
from evaluation.functional.boundaries import boundary_accuracy
from evaluation.functional.regions import region_similarity

#: track IoUs from which on an object counts as found: .5, .55 … .95
THRESHOLDS = tuple(step / 20 for step in range(10, 20))
#: tracks of one expression that ViCaS looks at
MOST_TRACKS = 10
#: proposals per video that DAVIS' unsupervised task allows
MOST_PROPOSALS = 20


class FrameScores(NamedTuple):
    """J and F of each of N objects per frame, ``float64 (N, T)`` each."""

    similarity: Tensor
    accuracy: Tensor


def track_iou(pred: Sequence[Masks], target: Sequence[Masks]) -> Tensor:
    """Return the IoU over all frames of every pair of tracks: sums of intersections over sums of unions.

    Args:
        pred: P tracks, masks of T frames each.
        target: N tracks, masks of T frames each.

    Returns:
        ``float64 (P, N)`` in [0, 1]; 0 where both tracks are empty.

    Raises:
        ValueError: if the tracks are not of one shape.

    Example:
        >>> first = torch.tensor([[[True, True]], [[True, False]]])
        >>> track_iou([first], [first, ~first])
        tensor([[1., 0.]], dtype=torch.float64)
    """
    tracks, objects = _tracks(pred, target)
    iou = torch.zeros(len(tracks), len(objects), dtype=torch.float64)
    for row, track in enumerate(tracks):
        for column, each in enumerate(objects):
            union = int((track | each).areas().sum())
            iou[row, column] = int((track & each).areas().sum()) / max(union, 1)
    return iou


def found_tracks(iou: Tensor, official: bool = False) -> Tensor:
    """Return which tracks find an object at each of ``THRESHOLDS``, an object being found by one track at most.

    The first ten tracks are looked at. As tracks have no scores, none goes before another: as many as can find an
    object do.

    Args:
        iou: ``float64 (P, N)`` of `track_iou`.
        official: as the evaluator of ViCaS, in float32: each track in turn takes the last free object it overlaps
            enough. With more than ten tracks that evaluator stops, without objects it counts all of them.

    Returns:
        ``bool (10, min(P, 10))``; ``(10, P)`` if official and N is 0.

    Reference:
        ViCaS (arXiv 2412.09754), https://github.com/Ali2500/ViCaS, vicas/evaluation/seg_eval.py

    Example:
        >>> found_tracks(torch.tensor([[0.6], [0.9]], dtype=torch.float64)).sum(dim=1).tolist()
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    """
    looked_at = iou if official and not iou.shape[1] else iou[:MOST_TRACKS]
    found = torch.zeros(len(THRESHOLDS), len(looked_at), dtype=torch.bool)
    if official:
        rows = looked_at.numpy().astype(np.float32).astype(np.float64)
        for level, threshold in enumerate(np.arange(0.5, 0.95 + 1e-4, 0.05)):
            found[level] = torch.from_numpy(_in_turn(rows >= threshold))
    else:
        for level, threshold in enumerate(THRESHOLDS):
            near = (looked_at >= threshold).numpy()
            rows, columns = linear_sum_assignment(near, maximize=True)
            found[level, rows] = torch.from_numpy(near[rows, columns])
    return found


def average_precision(found: Tensor, tracks: float, objects: float) -> Tensor:
    """Return the average precision of the tracks of all expressions, at each threshold.

    As tracks have no scores, the curve of precision over recall is one point, and the area below it
    ``AP = precision * recall = found^2 / (tracks * objects)``.

    Args:
        found: ``(10,)`` number of tracks that find an object.
        tracks: number of predicted tracks.
        objects: number of annotated objects.

    Returns:
        ``float64 (10,)`` in [0, 1]; 0 if there are either no tracks or no objects, NaN if there are neither.

    Example:
        >>> average_precision(torch.tensor([2, 1]), tracks=2, objects=4)
        tensor([0.5000, 0.1250], dtype=torch.float64)
    """
    if not (tracks and objects):
        return torch.full(found.shape, 0.0 if tracks or objects else torch.nan, dtype=torch.float64)
    return found.double() ** 2 / (tracks * objects)


def official_average_precision(found: Tensor, objects: int) -> Tensor:
    """Return the average precision as the evaluator of ViCaS computes it, in float32.

    It takes the tracks in their order, as if their scores fell, and interpolates precision. So the number depends on
    the order of the expressions.

    Args:
        found: ``bool (10, P)`` of `found_tracks`, the expressions side by side.
        objects: number of annotated objects of all expressions.

    Returns:
        ``float64 (10,)`` in [0, 1]; 0 without tracks, else 1 without objects.

    Example:
        >>> official_average_precision(torch.tensor([[True, False], [False, True]]), 1)
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    if not (found.shape[1] and objects):
        return torch.full((len(found),), 1.0 if found.shape[1] else 0.0, dtype=torch.float64)
    return torch.tensor([_interpolated(row, objects) for row in found.numpy()], dtype=torch.float64)


def assigned_scores(
    pred: Sequence[Masks], target: Sequence[Masks], void: Masks | None = None, missing: Sequence[Sequence[int]] = ()
) -> FrameScores:
    """Return J and F of each object with the proposal that is assigned to it, as DAVIS' unsupervised task does.

    Proposals are assigned to objects so that the sum of their mean ``(J + F) / 2`` is largest. Where there are fewer
    than objects, the others are empty.

    Args:
        pred: at most 20 proposals, masks of T frames each.
        target: N objects, masks of T frames each.
        void: pixels that do not count.
        missing: for each proposal, the frames in which it gets 0; by default none.

    Raises:
        ValueError: if there are more than 20 proposals, or the masks are not of one shape.

    Reference:
        The 2019 DAVIS Challenge (arXiv 1905.00737), https://github.com/davisvideochallenge/davis2017-evaluation
    """
    proposals, objects = _tracks(pred, target)
    if len(proposals) > MOST_PROPOSALS:
        raise ValueError(f"Expected at most {MOST_PROPOSALS} proposals for a video, but got {len(proposals)}")
    shape = next((track.shape for track in (*proposals, *objects)), (0, 1, 1))
    proposals += [BitMasks.empty(shape)] * (len(objects) - len(proposals))
    scores = torch.zeros(2, len(proposals), len(objects), shape[0], dtype=torch.float64)
    for row, proposal in enumerate(proposals):
        for column, each in enumerate(objects):
            scores[0, row, column] = region_similarity(proposal, each, void)
            scores[1, row, column] = boundary_accuracy(proposal, each, void)
    for row, times in enumerate(missing):
        scores[:, row, :, list(times)] = 0.0
    rows, columns = linear_sum_assignment(scores.mean(dim=(0, 3)).numpy(), maximize=True)
    best = scores[:, rows, columns][:, np.argsort(columns)]
    return FrameScores(best[0], best[1])


def without_overlaps(tracks: Sequence[BitMasks]) -> list[BitMasks]:
    """Return tracks of which an earlier one keeps the pixels it shares with later ones, as argmax over masks does."""
    free: list[BitMasks] = []
    taken = BitMasks.empty(tracks[0].shape) if tracks else None
    for track in tracks:
        assert taken is not None
        free.append(track - taken)
        taken = taken | track
    return free


def _tracks(pred: Sequence[Masks], target: Sequence[Masks]) -> tuple[list[BitMasks], list[BitMasks]]:
    """Return tracks and objects as bits, all of one shape."""
    named = {
        f"{name}[{n}]": track for name, each in (("pred", pred), ("target", target)) for n, track in enumerate(each)
    }
    bits = as_bits(**named) if named else []
    return bits[: len(pred)], bits[len(pred) :]


def _in_turn(near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows get a column when each takes its last free one, and lets go of any it took before."""
    taken: list[int] = []
    found = np.zeros(len(near), bool)
    for row, columns in enumerate(near):
        free = [column for column in np.flatnonzero(columns).tolist() if column not in taken]
        taken += free[-1:]
        found[row] = bool(free)
    return found


def _interpolated(found: NDArray[np.bool_], objects: int) -> float:
    hits = np.cumsum(found.astype(np.float32))
    precision = hits / np.arange(1, len(found) + 1, dtype=np.float32)
    best = np.maximum.accumulate(np.append(precision, np.float32(0))[::-1])[::-1]
    recall = np.concatenate([[np.float32(0)], hits / np.float32(objects), [np.float32(1)]], dtype=np.float32)
    steps = np.diff(recall)
    return float(np.sum((steps * best)[steps != 0]))
