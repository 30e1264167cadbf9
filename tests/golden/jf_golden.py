"""Golden vectors of the DAVIS-2017 measures J and F with the counts behind them, and of ReVOS' A and R."""

from typing import Any

from evaluation.functional import (
    BitMasks,
    boundary_accuracy,
    boundary_counts,
    boundary_radius,
    official_accuracy,
    official_robustness,
    region_counts,
    region_similarity,
)
from tests.golden import Report, cases, sections

COUNTS = ("inter", "union", "n_pred_boundary", "n_gt_boundary", "n_pred_match", "n_gt_match")


def frame(report: Report, case: dict[str, Any]) -> None:
    pred, target, void = (None if case[name] is None else BitMasks.of([case[name]]) for name in ("pred", "gt", "void"))
    got = (*region_counts(pred, target, void), *boundary_counts(pred, target, void))
    for name, count in zip(COUNTS, got, strict=True):
        report.compare(name, count.item(), case[name])
    report.compare("bound_pix", boundary_radius(case["height"], case["width"]), case["bound_pix"])
    for name, measure in (("J", region_similarity), ("F", boundary_accuracy)):
        report.compare(name, measure(pred, target, void).item(), case[name], atol=1e-12, rtol=0.0)


def video(report: Report, case: dict[str, Any]) -> None:
    names = ("pred_frames_bin", "gt_frames_bin", "gt_frames_eq2", "foreground")
    pred, once, twice, foreground = (BitMasks.of(case[name]) for name in names)
    objects, value = (once, twice), case["pred_value"]
    got = {
        "J": region_similarity(pred, once | twice),
        "F": boundary_accuracy(pred, once | twice),
        "A": official_accuracy(pred, objects, value),
        "R": official_robustness(pred, objects, foreground, value),
    }
    for name, values in got.items():
        report.compare(name, values, case[name], atol=1e-9, rtol=0.0)


def run(data: dict[str, Any]) -> Report:
    """Run every frame and every video of the file."""
    report = Report("jf_golden")
    content = sections(data, ("frames", "revos_AR_videos", "implementations"))
    for name, case in cases(content, "frames"):
        with report.case(name):
            frame(report, case)
    for name, case in cases(content, "revos_AR_videos"):
        with report.case(name):
            video(report, case)
    return report
