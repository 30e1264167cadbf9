"""The arithmetic of the rewards: pure functions of tensors."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def box_iou(boxes: Tensor, targets: Tensor, inclusive: bool = False) -> Tensor:
    """Intersection over union of every box with every target.

    Args:
        boxes: ``(M, 4)`` xyxy.
        targets: ``(N, 4)`` xyxy, in the same units.
        inclusive: x2 and y2 are the last covered pixel instead of the one after it: every extent, of intersections too,
            is one longer, and inverted boxes have the area their extents multiply to (``batch_iou`` of Veason-R1 and
            VisionReasoner). Otherwise boxes are half-open, and a box without extent has no IoU with anything.

    Returns:
        ``float64 (M, N)``.
    """
    boxes, targets = boxes.double()[:, None], targets.double()[None]
    longer = 1.0 if inclusive else 0.0
    inner = torch.minimum(boxes[..., 2:], targets[..., 2:]) - torch.maximum(boxes[..., :2], targets[..., :2]) + longer
    overlap = inner.clamp(min=0).prod(dim=-1)
    areas = [boxes[..., 2:] - boxes[..., :2] + longer, targets[..., 2:] - targets[..., :2] + longer]
    if inclusive:
        return overlap / (areas[0].prod(dim=-1) + areas[1].prod(dim=-1) - overlap)
    union = areas[0].clamp(min=0).prod(dim=-1) + areas[1].clamp(min=0).prod(dim=-1) - overlap
    return torch.where(union > 0, overlap / union, 0.0)


class Matching(NamedTuple):
    """A one-to-one matching: row ``rows[i]`` with column ``columns[i]``, and the score of the whole."""

    rows: list[int]
    columns: list[int]
    score: float


def match(iou: Tensor) -> Matching:
    """Match boxes and targets one to one so that the sum of their IoU is largest.

    The score is that sum divided by ``max(M, N)``: every box without a target and every target without a box costs.

    Args:
        iou: ``(M, N)``, finite.

    Returns:
        ``min(M, N)`` pairs in the order of rows, and the score, 0 if there is nothing to match.
    """
    rows, columns = linear_sum_assignment(1.0 - iou.numpy())
    total = sum(iou[row, column].item() for row, column in zip(rows, columns, strict=True))
    return Matching(rows.tolist(), columns.tolist(), total / max(*iou.shape, 1))


def mask_iou(masks: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union of masks, frame by frame.

    Args:
        masks: ``bool (K, H, W)``.
        targets: ``bool (K, H, W)``.

    Returns:
        ``float32 (K,)``, NaN where both are empty.
    """
    overlap = (masks & targets).sum(dim=(-2, -1))
    union = (masks | targets).sum(dim=(-2, -1))
    return overlap.float() / union.float()


def resize_nearest(masks: Tensor, size: int) -> Tensor:
    """Resize masks to a square by taking the nearest pixel to the upper left.

    Args:
        masks: ``bool (K, H, W)``.
        size: side of the square in pixels.

    Returns:
        ``bool (K, size, size)``.
    """
    return F.interpolate(masks[:, None].to(torch.uint8), size=(size, size), mode="nearest")[:, 0].bool()
