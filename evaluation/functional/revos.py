"""What ReVOS measures besides J and F: accuracy A and robustness R."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.functional.arguments import as_bits, common_shape
from evaluation.functional.bitmasks import BitMasks, Masks

_STORED = 255  # value of predicted pixels in the pictures that public models write


def accuracy(pred: Masks, target: Masks, official: bool = False) -> Tensor:
    """Return the accuracy A of ReVOS and Ref-SAV: the share of pixels on which prediction and target agree.

    Args:
        pred: ``bool (T, H, W)`` of torch or numpy, COCO RLEs (None: an empty mask), or bits.
        target: likewise.
        official: as the benchmark's tool does: the share of pixels whose stored values are equal. Masks may then be
            uint8 as in `robustness`, and what is predicted as 255 never equals a target of 1.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if the masks are not bool (``official``: bool or uint8), not (T, H, W), or not of one shape.
    """
    if official and (values := _stored(pred=pred, target=target)):
        p, t = values
        return torch.from_numpy((p == t).mean(axis=(1, 2)))
    p_bits, t_bits = as_bits(pred=pred, target=target)
    return official_accuracy(p_bits, [t_bits], _STORED if official else 1)


def robustness(pred: Masks, target: Masks, foreground: Masks, official: bool = False) -> Tensor:
    """Return the robustness R of ReVOS: how little of what was predicted is not the target (VISA, arXiv 2407.11325).

    ``R = max(0, 1 - |pred & ~target| / (|foreground| + 1e-6))``.

    Args:
        pred: ``bool (T, H, W)`` of torch or numpy, COCO RLEs (None: an empty mask), or bits.
        target: likewise.
        foreground: likewise, the union of every annotated object of the video.
        official: as the benchmark's tool does: ``max(0, 1 - sum((1 - target) * pred) / ...)`` in uint8 arithmetic on
            masks read from 0/255 images, where each wrong pixel counts 255 times. Masks may then be uint8: a prediction
            is taken as stored, a target as the sum over its objects, whose overlaps wrap around; a prediction that is
            not uint8 is taken as 0/255.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if the masks are not bool (``official``: bool or uint8), not (T, H, W), or not of one shape.
    """
    if official and (values := _stored(pred=pred, target=target, foreground=foreground)):
        p, t, f = values
        wrong = ((np.uint8(1) - t) * p).sum(axis=(1, 2), dtype=np.int64)
        return _share_left(wrong, f.sum(axis=(1, 2), dtype=np.int64))
    p_bits, t_bits, f_bits = as_bits(pred=pred, target=target, foreground=foreground)
    return official_robustness(p_bits, [t_bits], f_bits, _STORED if official else 1)


def official_accuracy(pred: BitMasks, objects: Sequence[BitMasks], value: int) -> Tensor:
    """Return the accuracy A as VISA's tool computes it: the share of pixels whose stored values are equal.

    The target's value is the number of objects that cover a pixel, in uint8 arithmetic.

    Args:
        pred: prediction.
        objects: masks of each annotated object.
        value: of the predicted pixels as stored, mostly 1 or 255; the others are 0.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if ``value`` is not in 1..255.
    """
    _check_value(value)
    _, height, width = pred.shape
    equal = height * width - pred.areas()
    for count, layer in enumerate(_layers(objects), start=1):
        equal -= (layer - pred).areas() if count % 256 else 0
        equal += (layer & pred).areas() if count % 256 == value else 0
    return torch.from_numpy(equal / (height * width))


def official_robustness(pred: BitMasks, objects: Sequence[BitMasks], foreground: BitMasks, value: int) -> Tensor:
    """Return the robustness R as VISA's tool computes it: ``max(0, 1 - sum((1 - target) * pred) / ...)`` in uint8.

    A wrong pixel counts ``value`` times, and a right one where k > 1 objects overlap ``(1 - k) * value`` modulo 256.

    Args:
        pred: prediction.
        objects: masks of each annotated object.
        foreground: the union of every annotated object of the video.
        value: of the predicted pixels as stored, mostly 1 or 255; the others are 0.

    Returns:
        ``float64 (T,)`` in [0, 1].

    Raises:
        ValueError: if ``value`` is not in 1..255.
    """
    _check_value(value)
    layers = _layers(objects)
    outside = pred
    wrong = np.zeros(pred.shape[0], np.int64)
    for count, layer in enumerate(layers, start=1):
        wrong += (1 - count) * value % 256 * (pred & layer).areas()
        outside -= layer
    wrong += value * outside.areas()
    return _share_left(wrong, foreground.areas())


def _check_value(value: int) -> None:
    if not 1 <= value <= 255:
        raise ValueError(f"Expected `value` to be in 1..255, but got {value}")


def _layers(objects: Sequence[BitMasks]) -> list[BitMasks]:
    """Return the pixels that exactly 1, 2, … objects cover, up to the most that do."""
    covered: list[BitMasks] = []  # by at least 1, 2, … objects
    for mask in objects:
        carried = mask
        for number, level in enumerate(covered):
            covered[number], carried = level | carried, level & carried
        if carried.areas().any():
            covered.append(carried)
    return [level - above for level, above in pairwise(covered)] + covered[-1:]


def _share_left(wrong: NDArray[np.int64], foreground: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.maximum(0.0, 1 - wrong / (foreground + 1e-6)))


def _stored(**masks: Masks) -> list[NDArray[np.uint8]]:
    """Return masks as the values of a picture of them, ``uint8 (T, H, W)``; nothing if none is given as values."""
    shape = common_shape(masks, ("bool", "uint8"))
    given = {name: np.asarray(mask.cpu()) if isinstance(mask, Tensor) else mask for name, mask in masks.items()}
    if not any(isinstance(mask, np.ndarray) and mask.dtype == np.uint8 for mask in given.values()):
        return []
    values = []
    for name, mask in given.items():
        if isinstance(mask, np.ndarray) and mask.dtype == np.uint8:
            values.append(mask)
        else:
            values.append(BitMasks.of(mask, shape[1:]).dense().numpy() * np.uint8(_STORED if name == "pred" else 1))
    return values
