"""Mask quality per frame, as the DAVIS-2017 evaluation defines it and every benchmark since has copied it."""

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.functional.bitmasks import BitMasks, Masks

Mask = NDArray[np.uint8]  # 0 and 1, because OpenCV knows no bool
Bits = NDArray[np.uint64]

_NEIGHBOURS = np.ones((2, 2), np.uint8)


class RegionCounts(NamedTuple):
    """Pixels per frame, ``int64 (T,)`` each."""

    intersection: Tensor
    union: Tensor


class BoundaryCounts(NamedTuple):
    """Boundary pixels per frame, and how many have one of the other mask within reach, ``int64 (T,)`` each."""

    pred: Tensor
    target: Tensor
    pred_matched: Tensor
    target_matched: Tensor


def region_counts(pred: Masks, target: Masks, void: Masks | None = None) -> RegionCounts:
    """Return intersection and union of two masks outside ``void``; arguments as `region_similarity`."""
    frames = _frames(pred, target, void)
    counts = [
        (cv2.countNonZero(cv2.bitwise_and(p, t)), cv2.countNonZero(cv2.bitwise_or(p, t)))
        for p, t in zip(*frames, strict=True)
    ]
    return RegionCounts(*torch.tensor(counts, dtype=torch.int64).reshape(-1, 2).unbind(1))


def region_similarity(pred: Masks, target: Masks, void: Masks | None = None) -> Tensor:
    """Return the region similarity J, the intersection over union (Perazzi et al., CVPR 2016, §4).

    ``J = |pred & target| / |pred | target|`` outside ``void``, and 1 where both are empty.

    Args:
        pred: ``bool (T, H, W)``.
        target: ``bool (T, H, W)``.
        void: ``bool (T, H, W)``, pixels that do not count.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if the masks are not bool, not (T, H, W), or not of one shape.

    Example:
        >>> region_similarity(torch.tensor([[[True, True, False]]]), torch.tensor([[[True, False, False]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    intersection, union = region_counts(pred, target, void)
    return torch.where(union == 0, 1.0, intersection.double() / union.clamp(min=1))


def boundary_counts(pred: Masks, target: Masks, void: Masks | None = None, tolerance: float = 0.008) -> BoundaryCounts:
    """Return how many boundary pixels match; arguments as `boundary_accuracy`."""
    frames = _frames(pred, target, void)
    radius = boundary_radius(frames[0].shape[1], frames[0].shape[2], tolerance)
    counts = [_match(p, t, radius) for p, t in zip(*frames, strict=True)]
    return BoundaryCounts(*torch.tensor(counts, dtype=torch.int64).reshape(-1, 4).unbind(1))


def boundary_accuracy(pred: Masks, target: Masks, void: Masks | None = None, tolerance: float = 0.008) -> Tensor:
    """Return the boundary accuracy F (Perazzi et al., CVPR 2016, §4; integer counts equal to davis2017-evaluation's).

    A pixel is on the boundary if it differs from its right, lower or lower right neighbour inside the image. Precision
    is the share of the predicted boundary within `boundary_radius` (Euclidean) of the target's boundary, recall the
    reverse, ``F = 2 P R / (P + R)``. If only one of the boundaries is empty F is 0, if both are it is 1: a mask that
    covers the whole image has no boundary. Void pixels are cleared in both masks before boundaries are drawn.

    Args:
        pred: ``bool (T, H, W)``.
        target: ``bool (T, H, W)``.
        void: ``bool (T, H, W)``, pixels that do not count.
        tolerance: share of the image's diagonal, or pixels from 1 on.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if the masks are not bool, not (T, H, W), or not of one shape.
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


def robustness(pred: Masks, target: Masks, foreground: Masks, official: bool = False) -> Tensor:
    """Return the robustness R of ReVOS: how little of what was predicted is not the target (VISA, arXiv 2407.11325).

    ``R = max(0, 1 - |pred & ~target| / (|foreground| + 1e-6))``.

    Args:
        pred: ``bool (T, H, W)``.
        target: ``bool (T, H, W)``.
        foreground: ``bool (T, H, W)``, the union of every annotated object of the video.
        official: as the benchmark's tool does: ``max(0, 1 - sum((1 - target) * pred) / ...)`` in uint8 arithmetic on
            masks read from 0/255 images, where each wrong pixel counts 255 times. Masks may then be uint8: a prediction
            is taken as stored, a target as the sum over its objects, whose overlaps wrap around; a bool prediction
            is taken as 0/255.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if the masks are not bool (``official``: bool or uint8), not (T, H, W), or not of one shape.
    """
    kinds = ("bool", "uint8") if official else ("bool",)
    p, t, f = _array("pred", pred, kinds), _array("target", target, kinds), _array("foreground", foreground, kinds)
    _check_shapes(pred=p, target=t, foreground=f)
    if official:
        p = p.astype(np.uint8) * np.uint8(255) if p.dtype == bool else p
        wrong = ((np.uint8(1) - t.astype(np.uint8)) * p).sum(axis=(1, 2), dtype=np.int64)
    else:
        wrong = np.count_nonzero(p & ~t, axis=(1, 2))
    scale = f.sum(axis=(1, 2), dtype=np.int64) + 1e-6
    return torch.from_numpy(np.maximum(0.0, 1 - wrong / scale))


def _array(name: str, mask: Masks, kinds: tuple[str, ...] = ("bool",)) -> NDArray[Any]:
    if not isinstance(mask, Tensor | np.ndarray):
        mask = BitMasks.of(mask).dense()
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.dtype.name not in kinds or array.ndim != 3:
        raise ValueError(
            f"Expected `{name}` to be {' or '.join(kinds)} (T, H, W), but got {array.dtype.name} {array.shape}"
        )
    return array


def _check_shapes(**masks: NDArray[Any]) -> None:
    shapes = {name: mask.shape for name, mask in masks.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"Expected {', '.join(f'`{name}`' for name in shapes)} to have one shape, but got {shapes}")


def _frames(pred: Masks, target: Masks, void: Masks | None) -> tuple[Mask, Mask]:
    """Return prediction and target as 0 and 1, cleared where void."""
    given = {"pred": _array("pred", pred), "target": _array("target", target)}
    if void is not None:
        given["void"] = _array("void", void)
    _check_shapes(**given)
    if void is not None:
        given = {name: mask & ~given["void"] for name, mask in given.items()}
    pred_array, target_array = (np.ascontiguousarray(given[name]).view(np.uint8) for name in ("pred", "target"))
    return pred_array, target_array


def _match(pred: Mask, target: Mask, radius: int) -> tuple[int, int, int, int]:
    """Return the sizes of both boundaries and how much of each is within ``radius`` of the other."""
    left, top, width, height = cv2.boundingRect(cv2.bitwise_or(pred, target))
    if width == 0:
        return 0, 0, 0, 0
    # Boundaries lie on the objects or one pixel up and left of them; one more pixel down and right keeps neighbours.
    window = slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)
    boundaries = [_boundary(pred[window]), _boundary(target[window])]
    sizes = cv2.countNonZero(boundaries[0]), cv2.countNonZero(boundaries[1])
    if 0 in sizes:
        return *sizes, 0, 0
    bits = _pack(np.stack(boundaries), radius)
    reach = _dilate(bits, len(boundaries[0]), radius)
    return *sizes, _count(bits[0] & reach[1]), _count(bits[1] & reach[0])


def _boundary(mask: Mask) -> Mask:
    """Return the pixels whose 2x2 block to the lower right, cut at the image's edge, is not uniform."""
    return cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _NEIGHBOURS, anchor=(0, 0)).astype(np.uint8, copy=False)


def _pack(maps: Mask, radius: int) -> Bits:
    """Return each of several maps as one string of bits, 64 to a word.

    Rows are followed by at least ``radius`` zeros, so that moving by ``radius`` places never reaches another row.
    """
    count, height, width = maps.shape
    words = -(-(width + radius) // 64)
    octets = np.zeros((count, height, 8 * words), np.uint8)
    packed = np.packbits(maps, axis=2, bitorder="little")
    octets[:, :, : packed.shape[2]] = packed
    return octets.view("<u8").reshape(count, -1)


def _dilate(bits: Bits, height: int, radius: int) -> Bits:
    """Return the pixels within Euclidean distance ``radius`` of a set one, for strings of ``height`` rows.

    Row ``y`` of the disc spans ``±isqrt(radius² - y²)``. Runs of 1, 2, 4 … set places come from doubling, a run of any
    length from two overlapping ones, and moving by rows is moving by words: about 7 operations on words for each
    distinct row of the disc, where a pixel-wise dilation touches every byte for each place of it.
    """
    words = bits.shape[1] // height
    runs = {1: bits}
    while 2 * max(runs) <= 2 * radius + 1:
        longest = max(runs)
        runs[2 * longest] = runs[longest] | _shift(runs[longest], longest)
    reach = np.zeros_like(bits)
    spans = [math.isqrt(radius**2 - y**2) for y in range(min(radius, height - 1) + 1)]
    for span in sorted(set(spans)):
        run = max(length for length in runs if length <= 2 * span + 1)
        row = _shift(runs[run], -span)
        row |= _shift(runs[run], span + 1 - run)
        for y in (y for y, other in enumerate(spans) if other == span):
            reach[:, y * words :] |= row[:, : row.shape[1] - y * words]
            reach[:, : row.shape[1] - y * words] |= row[:, y * words :]
    return reach


def _shift(bits: Bits, places: int) -> Bits:
    """Return strings of bits moved by ``places``, up if positive; zeros move in."""
    words, rest = divmod(abs(places), 64)
    moved = np.zeros_like(bits)
    here, carried = moved[:, words:], moved[:, words + 1 :]
    if places >= 0:
        np.left_shift(bits[:, : bits.shape[1] - words], np.uint64(rest), out=here)
        carry = bits[:, : carried.shape[1]] >> np.uint64(64 - rest) if rest else None
    else:
        here, carried = moved[:, : here.shape[1]], moved[:, : carried.shape[1]]
        np.right_shift(bits[:, words:], np.uint64(rest), out=here)
        carry = bits[:, words + 1 :] << np.uint64(64 - rest) if rest else None
    if carry is not None:
        carried |= carry
    return moved


def _count(bits: Bits) -> int:
    return int.from_bytes(bits.tobytes(), "little").bit_count()
