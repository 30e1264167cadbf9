"""What ReVOS' own tool measures besides J and F, on masks as bits."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from evaluation.functional.bitmasks import BitMasks


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
    wrong = torch.zeros(pred.shape[0], dtype=torch.int64).numpy()
    for count, layer in enumerate(layers, start=1):
        wrong += (1 - count) * value % 256 * (pred & layer).areas()
        outside -= layer
    wrong += value * outside.areas()
    return torch.from_numpy(1 - wrong / (foreground.areas() + 1e-6)).clamp(min=0.0)


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
