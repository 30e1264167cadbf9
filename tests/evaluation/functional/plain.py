"""The definitions as they are written, slow and obvious, and masks to try them on."""

import math

import cv2
import numpy as np
import torch
from pycocotools import mask as coco

from evaluation.functional import BitMasks

KINDS = ("empty", "full", "pixel", "edge", "line", "noise", "box", "blob", "ragged")


def boundary(mask):
    """Neighbour by neighbour, on a mask whose last row and column are repeated."""
    repeated = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask ^ repeated[:-1, 1:]) | (mask ^ repeated[1:, :-1]) | (mask ^ repeated[1:, 1:])


def counts(pred, target, void=None, radius=None):
    """Intersection, union, both boundaries, and how much of each lies in the other's dilation by the Euclidean disc."""
    if void is not None:
        pred, target = pred & ~void, target & ~void
    radius = radius or math.ceil(0.008 * math.hypot(*pred.shape))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x**2 + y**2 <= radius**2).astype(np.uint8)
    a, b = boundary(pred), boundary(target)
    near_a, near_b = (cv2.dilate(part.astype(np.uint8), disc) > 0 for part in (a, b))
    return [int(part.sum()) for part in (pred & target, pred | target, a, b, a & near_b, b & near_a)]


def accuracy(pred_size, target_size, pred_matched, target_matched):
    """F, case by case as the DAVIS-2017 evaluation has it."""
    if pred_size == 0 and target_size > 0:
        precision, recall = 1, 0
    elif pred_size > 0 and target_size == 0:
        precision, recall = 0, 1
    elif pred_size == 0 and target_size == 0:
        precision, recall = 1, 1
    else:
        precision, recall = pred_matched / pred_size, target_matched / target_size
    return 0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def random_mask(generator, height, width, kind=None):
    kind = kind or generator.choice(KINDS)
    mask = np.zeros((height, width), np.uint8)
    y, x = generator.integers((height, width))
    if kind == "full":
        mask[:] = 1
    elif kind == "pixel":
        mask[y, x] = 1
    elif kind == "edge":
        mask[(slice(None), slice(None, 1), slice(-1, None))[generator.integers(3)], :: generator.integers(1, 3)] = 1
        mask = mask[:, ::-1] if generator.random() < 0.5 else mask
    elif kind == "line":
        cv2.line(mask, (0, int(y)), (int(x), height - 1), 1)
    elif kind == "noise":
        mask = generator.random((height, width)) < generator.choice([0.01, 0.1, 0.5, 0.95])
    elif kind == "box":
        mask[y : y + generator.integers(1, height + 1), x : x + generator.integers(1, width + 1)] = 1
    elif kind in ("blob", "ragged"):
        axes = (1 + generator.integers((width, height)) // 2).tolist()
        cv2.ellipse(mask, (int(x), int(y)), axes, float(generator.integers(180)), 0, 360, 1, -1)
        mask ^= (generator.random((height, width)) < 0.03) & (kind == "ragged")
    return np.ascontiguousarray(mask).astype(bool)


def runs(mask):
    """Run lengths column by column, background first."""
    flat = mask.T.reshape(-1)
    lengths = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *lengths] if flat[0] else lengths}


def compressed(mask):
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def of_bytes(mask):
    rle = compressed(mask)
    return rle | {"counts": rle["counts"].encode()}


#: (T, H, W) of numpy -> each kind of masks that a measure takes
FORMS = {
    "numpy": lambda masks: masks,
    "torch": torch.from_numpy,
    "not contiguous": lambda masks: torch.from_numpy(masks.transpose(2, 1, 0).copy()).permute(2, 1, 0),
    "RLE": lambda masks: [compressed(mask) for mask in masks],
    "RLE of bytes": lambda masks: [
        compressed(mask) | {"counts": compressed(mask)["counts"].encode()} for mask in masks
    ],
    "runs": lambda masks: [runs(mask) for mask in masks],
    "bits": BitMasks.of,
}
