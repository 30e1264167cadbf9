"""Golden vectors of VideoSEG-O3's evaluators: J, F, A and R of frames, and of a video with its means."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.functional import (
    accuracy,
    boundary_accuracy,
    boundary_counts,
    boundary_radius,
    region_similarity,
    robustness,
)
from tests.golden import Report, cases, sections

TOLERANCE = {"atol": 1e-9, "rtol": 0.0}
VIDEO_SHAPE = (40, 60)
#: counts of ``boundary_counts`` by the names of the file; some cases have none
COUNTS = {"boundary_pixels_gt": "target", "boundary_pixels_pred": "pred"}


def values(runs: list[list[int]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return row-major runs of [value, count] as ``uint8 (1, H, W)``."""
    value, count = np.asarray(runs, dtype=np.int64).T
    return np.repeat(value.astype(np.uint8), count).reshape(1, *shape)


def frame(report: Report, case: dict[str, Any]) -> None:
    pred, target, foreground = (values(case[f"{name}_runs"], case["shape"]) for name in ("pred", "gt", "fg"))
    masks = pred > 0, target > 0
    got = {
        "J": region_similarity(*masks),
        "F": boundary_accuracy(*masks),
        "A": accuracy(pred, target, official=True),
        "R": robustness(pred, target, foreground, official=True),
    }
    for name, value in got.items():
        report.compare(name, value.item(), case[name], **TOLERANCE)
    for name, count in COUNTS.items():
        if name in case:
            report.compare(name, getattr(boundary_counts(*masks), count).item(), case[name])
    if "dilation_radius" in case:
        report.compare("dilation_radius", boundary_radius(*case["shape"]), case["dilation_radius"])


def video(report: Report, case: dict[str, Any]) -> None:
    masks = [
        np.concatenate([values(runs, VIDEO_SHAPE) for runs in case[f"{name}_runs"]]) > 0 for name in ("pred", "gt")
    ]
    for name, measure in (("J", region_similarity), ("F", boundary_accuracy)):
        got = measure(*masks)
        report.compare(name, got, case[name], **TOLERANCE)
        report.compare(f"{name}_mean", got.mean().item(), case[f"{name}_mean"], **TOLERANCE)


def run(data: dict[str, Any]) -> Report:
    """Run every frame of the file, and its video."""
    report = Report("videoseg_o3_metrics")
    content = sections(data, ("cases", "video"))
    for name, case in cases(content, "cases"):
        with report.case(name):
            frame(report, case)
    if "video" in content:
        with report.case("video"):
            video(report, content["video"])
    return report
