"""How long do J and F of a frame take, against the official formula with OpenCV, on one thread?

    python benchmarks/jf.py official_480p_typical --json jf.json

Both are given the same masks, as bool arrays or (``..._rle``) as COCO RLE, and both have to give the same counts. They
take turns within each round; times are medians over the rounds of the processor's time, in ms per frame. The official
formula goes frame by frame through the steps of the DAVIS-2017 evaluation: void pixels cleared, three shifted copies of
each mask, ``cv2.dilate`` by the disc; pycocotools reads its RLEs.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from pycocotools import mask as coco

from benchmarks.harness import command_line, finish, show
from datamodules.masks import encode_rle
from evaluation.functional import BitMasks, boundary_accuracy, boundary_counts, region_counts, region_similarity

PEER = "official"
SIZES = {"480p": (480, 854), "720p": (720, 1280), "1080p": (1080, 1920)}
KINDS = ("sparse", "typical", "dense", "noisy")
CASES = [f"{PEER}_{size}_{kind}{form}" for size in SIZES for kind in KINDS for form in ("", "_rle")]


# --- masks -------------------------------------------------------------------------------------------------------


def blob(generator: np.random.Generator, size: tuple[int, int], radius: float, margin: float = 0.3) -> np.ndarray:
    """Return a ragged ellipse, ``bool (H, W)``; its radius is in heights of the picture, the margin in its extents."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    top, left = generator.uniform(margin, 1 - margin, 2) * size
    waves = np.sin(np.arctan2(y - top, x - left) * generator.integers(3, 20))
    down, right = generator.uniform(0.8, 1.2, 2) * radius * height * (1, 1.3)
    return ((y - top) / down) ** 2 + ((x - left) / right) ** 2 < 1 + 0.15 * waves


def pair(generator: np.random.Generator, size: tuple[int, int], kind: str) -> list[np.ndarray]:
    """Return a prediction and a target, ``bool (H, W)``.

    ``sparse``: a small object, 1 % of the picture; ``typical``: a tenth of the picture, where the prediction is some
    pixels aside and lacks a piece; ``dense``: forty objects all over it; ``noisy``: typical, one pixel in twenty wrong.
    """
    if kind == "dense":
        objects = [blob(generator, size, 0.08, margin=0) for _ in range(41)]
        return [np.roll(np.logical_or.reduce(objects[1:]), 3, 1), np.logical_or.reduce(objects[:-1])]
    target = blob(generator, size, 0.06 if kind == "sparse" else 0.2)
    moved = np.roll(target, generator.integers(-6, 7, 2), (0, 1))
    pred = moved if kind == "sparse" else moved & ~np.roll(target, int(0.15 * size[1]), 1)
    flips = generator.random((2, *size)) < (0.05 if kind == "noisy" else 0)
    return [pred ^ flips[0], target ^ flips[1]]


# --- what is compared --------------------------------------------------------------------------------------------


def official_region(pred: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """Return intersection and union."""
    counted = ~np.zeros_like(target)  # no pixel is void
    return np.sum(pred & target & counted), np.sum((pred | target) & counted)


def official_boundary(pred: np.ndarray, target: np.ndarray) -> tuple[int, int, int, int]:
    """Return the sizes of both boundaries, and how much of each the dilation of the other covers."""
    counted = ~np.zeros_like(target)
    radius = math.ceil(0.008 * np.linalg.norm(pred.shape))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x**2 + y**2 <= radius**2).astype(np.uint8)
    maps = [differing(mask & counted) for mask in (pred, target)]
    near = [cv2.dilate(part.astype(np.uint8), disc) for part in maps]
    parts = (*maps, maps[0] * near[1], maps[1] * near[0])
    return tuple(np.sum(part) for part in parts)


def differing(mask: np.ndarray) -> np.ndarray:
    """Return the pixels that differ from their right, lower or lower right neighbour in the picture."""
    right, under, aslant = np.zeros((3, *mask.shape), bool)
    right[:, :-1] = mask[:, 1:]
    under[:-1] = mask[1:]
    aslant[:-1, :-1] = mask[1:, 1:]
    edges = (mask ^ right) | (mask ^ under) | (mask ^ aslant)
    edges[-1] = mask[-1] ^ right[-1]
    edges[:, -1] = mask[:, -1] ^ under[:, -1]
    edges[-1, -1] = False
    return edges


def official_counts(preds: list, targets: list, measures: str = "JF") -> list[tuple[int, ...]]:
    """Return the counts of the official formula per frame; masks are arrays or RLEs."""
    counts = []
    for frame in zip(preds, targets, strict=True):
        pred, target = (decoded(mask) if isinstance(mask, dict) else mask for mask in frame)
        region = official_region(pred, target) if "J" in measures else ()
        boundary = official_boundary(pred, target) if "F" in measures else ()
        counts.append((*region, *boundary))
    return counts


def decoded(rle: dict) -> np.ndarray:
    """Return the mask of an RLE, row by row as the pictures of the published code are."""
    return np.ascontiguousarray(coco.decode(rle)).view(bool)


def our_counts(preds: object, targets: object) -> list[tuple[int, ...]]:
    """Return our counts per frame, in the same order."""
    pred, target = BitMasks.of(preds), BitMasks.of(targets)
    counts = (*region_counts(pred, target), *boundary_counts(pred, target))
    return list(zip(*(count.tolist() for count in counts), strict=True))


def ours(preds: object, targets: object, measures: str = "JF") -> None:
    """Measure all frames at once, as an evaluation does."""
    pred, target = BitMasks.of(preds), BitMasks.of(targets)
    if "J" in measures:
        region_similarity(pred, target)
    if "F" in measures:
        boundary_accuracy(pred, target)


# --- the measurement ---------------------------------------------------------------------------------------------


def masks_of(case: str, frames: int) -> tuple[object, object]:
    """Return predictions and targets of a case: ``bool (T, H, W)`` or lists of RLEs."""
    _, size, kind, *form = case.split("_")
    generator = np.random.default_rng(0)
    pairs = [pair(generator, SIZES[size], kind) for _ in range(frames)]
    preds, targets = (np.stack(part) for part in zip(*pairs, strict=True))
    if not form:
        return preds, targets
    return tuple([encode_rle(torch.from_numpy(mask)) for mask in part] for part in (preds, targets))


def measure(case: str, frames: int, rounds: int) -> dict:
    """Return the row of a case, with ms per frame.

    Raises:
        ValueError: if the counts of both differ.
    """
    preds, targets = masks_of(case, frames)
    expected, got = official_counts(preds, targets), our_counts(preds, targets)
    if expected != got:
        raise ValueError(f"Expected the official counts {expected} for {case}, but got {got}")
    kept = BitMasks.of(targets)
    boundary_accuracy(kept, kept)  # draws its boundaries
    calls: dict[str, Callable[[], object]] = {
        "official_ms": lambda: official_counts(preds, targets),
        "ours_ms": lambda: ours(preds, targets),
        "ours_target_kept_ms": lambda: ours(preds, kept),
        "official_J_ms": lambda: official_counts(preds, targets, "J"),
        "ours_J_ms": lambda: ours(preds, targets, "J"),
        "official_F_ms": lambda: official_counts(preds, targets, "F"),
        "ours_F_ms": lambda: ours(preds, targets, "F"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
    times = {name: 1e3 * statistics.median(values) / frames for name, values in seconds.items()}
    return {"case": case, "ratio": times["official_ms"] / times["ours_ms"], **times}


def main(words: list[str] | None = None) -> dict:
    """Measure, print a row and the ratio for each case, and write JSON.

    Args:
        words: words of the command line; by default those of the process.

    Returns:
        What is written.
    """
    arguments = parse(words)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    started = time.perf_counter()
    our_counts(np.ones((1, 2, 2), bool), [{"size": [2, 2], "counts": "4"}])
    first_call = time.perf_counter() - started
    cases = [arguments.case] if arguments.case else CASES
    rows = show(measure(case, arguments.frames, arguments.rounds) for case in cases)
    for row in rows:
        print(f"time per frame, {PEER} over ours, {row['case']}: {row['ratio']:.1f}")
    setting = {
        "frames": arguments.frames,
        "rounds": arguments.rounds,
        "threads": 1,
        "first_call_s": first_call,
    }
    return finish(arguments.json, "jf", setting, {row["case"]: row["ratio"] for row in rows}, rows)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = command_line(__doc__)
    parser.add_argument("case", nargs="?", choices=CASES, help="what to compare on; by default everything")
    parser.add_argument("--frames", type=int, default=20, help="in a video")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
