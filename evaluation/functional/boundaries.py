"""Boundary accuracy per frame, as the DAVIS-2017 evaluation defines it and every benchmark since has copied it."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.functional.bitmasks import Masks
from evaluation.functional.regions import without_void


class BoundaryCounts(NamedTuple):
    """Boundary pixels per frame, and how many have one of the other mask within reach, ``int64 (T,)`` each."""

    pred: Tensor
    target: Tensor
    pred_matched: Tensor
    target_matched: Tensor


def boundary_counts(pred: Masks, target: Masks, void: Masks | None = None, tolerance: float = 0.008) -> BoundaryCounts:
    """Return how many boundary pixels match; arguments as `boundary_accuracy`."""
    p, t = (mask.boundaries for mask in without_void(pred, target, void))
    radius = boundary_radius(*p.shape[1:], tolerance)
    counts = p.areas(), t.areas(), p.count_near(t, radius), t.count_near(p, radius)
    return BoundaryCounts(*map(torch.from_numpy, counts))


def boundary_accuracy(pred: Masks, target: Masks, void: Masks | None = None, tolerance: float = 0.008) -> Tensor:
    """Return the boundary accuracy F (Perazzi et al., CVPR 2016, §4; integer counts equal to davis2017-evaluation's).

    A pixel is on the boundary if it differs from its right, lower or lower right neighbour inside the image. Precision
    is the share of the predicted boundary within `boundary_radius` (Euclidean) of the target's boundary, recall the
    reverse, ``F = 2 P R / (P + R)``. If only one of the boundaries is empty F is 0, if both are it is 1: a mask that
    covers the whole image has no boundary. Void pixels are cleared in both masks before boundaries are drawn.

    Args:
        pred: ``bool (T, H, W)`` of torch or numpy, COCO RLEs (None: an empty mask), or bits.
        target: likewise; the boundaries of bits are drawn once, for every prediction they are compared with.
        void: likewise, pixels that do not count.
        tolerance: share of the image's diagonal, or pixels from 1 on.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if the masks are not bool, not (T, H, W), or not of one shape, or an RLE is malformed.
    """
    pred_size, target_size, pred_matched, target_matched = boundary_counts(pred, target, void, tolerance)
    # An empty boundary is found completely: precision 1 where nothing was predicted, recall 1 where nothing is there.
    precision = torch.where(pred_size == 0, 1.0, pred_matched.double() / pred_size.clamp(min=1))
    recall = torch.where(target_size == 0, 1.0, target_matched.double() / target_size.clamp(min=1))
    total = precision + recall
    return torch.where(total == 0, 0.0, 2 * precision * recall / torch.where(total == 0, 1.0, total))


def boundary_radius(height: int, width: int, tolerance: float = 0.008) -> int:
    """Return how many pixels matching boundaries may be apart: ``ceil(tolerance * diagonal)``; from 1 on, pixels."""
    return math.ceil(tolerance if tolerance >= 1 else tolerance * float(np.linalg.norm((height, width))))
