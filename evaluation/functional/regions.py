"""Region similarity per frame, as the DAVIS-2017 evaluation defines it and every benchmark since has copied it."""

from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.functional.arguments import as_bits
from evaluation.functional.bitmasks import BitMasks, Masks


class RegionCounts(NamedTuple):
    """Pixels per frame, ``int64 (T,)`` each."""

    intersection: Tensor
    union: Tensor


def region_counts(pred: Masks, target: Masks, void: Masks | None = None) -> RegionCounts:
    """Return intersection and union of two masks outside ``void``; arguments as `region_similarity`."""
    p, t = without_void(pred, target, void)
    common = p.count(t)
    return RegionCounts(torch.from_numpy(common), torch.from_numpy(p.areas() + t.areas() - common))


def region_similarity(pred: Masks, target: Masks, void: Masks | None = None) -> Tensor:
    """Return the region similarity J, the intersection over union (Perazzi et al., CVPR 2016, §4).

    ``J = |pred & target| / |pred | target|`` outside ``void``, and 1 where both are empty.

    Args:
        pred: ``bool (T, H, W)`` of torch or numpy, COCO RLEs (None: an empty mask), or bits.
        target: likewise.
        void: likewise, pixels that do not count.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if the masks are not bool, not (T, H, W), or not of one shape, or an RLE is malformed.

    Example:
        >>> region_similarity(torch.tensor([[[True, True, False]]]), torch.tensor([[[True, False, False]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    intersection, union = region_counts(pred, target, void)
    return torch.where(union == 0, 1.0, intersection.double() / union.clamp(min=1))


def without_void(pred: Masks, target: Masks, void: Masks | None) -> list[BitMasks]:
    """Return prediction and target as bits, cleared where void; arguments as `region_similarity`."""
    if void is None:
        return as_bits(pred=pred, target=target)
    p, t, v = as_bits(pred=pred, target=target, void=void)
    return [p - v, t - v]
