"""Golden vectors of the ReVOS evaluator that VideoSEG-O3 ships: rows of expressions, and the means of groups."""

from typing import Any

from datamodules.revos import GROUPS
from evaluation import Prediction, ReVOSProtocol, Truth
from evaluation.functional import BitMasks
from evaluation.protocols import VideoScores
from tests.golden import GoldenFileError, Report, cases, sections

KIND = "videoseg_o3_revos_eval"
INPUTS = ("meta", "mask_dict", "foreground", "predictions")
#: measures of a row, in percent; this evaluator reads 0/1 masks
MEASURES = ("J", "F", "A", "R")
#: row of the table -> its name in the file
NAMES = {"referring": "referring", "reasoning": "reason", "overall": "overall"}


def run(data: dict[str, Any]) -> Report:
    """Measure the predictions of a file by the official protocol, and compare rows and means."""
    given = sections(data, (*INPUTS, "rows", "results_json"))
    if missing := sorted({"rows", "results_json"} & given.keys() and set(INPUTS) - given.keys()):
        raise GoldenFileError(f"Expected {list(INPUTS)} to measure, but got no {missing}")
    report, protocol = Report(KIND), ReVOSProtocol(official=True)
    rows = {(row.get("video_name"), row.get("exp_id")): row for _, row in cases(given, "rows")}
    names: list[tuple[str, str]] = []
    scored: list[VideoScores] = []
    if given.keys() >= set(INPUTS):
        with report.case("rows"):
            names = _names(given)
            report.compare("names", names, list(rows) if "rows" in given else names)
    for name in names:
        with report.case(f"rows/{'/'.join(name)}"):
            scored += protocol.score(*_case(given, *name))
            if name in rows:
                _check_row(report, scored[-1], rows[name])
    table = protocol.table({group: [each.row for each in scored if each.group == group] for group in GROUPS})
    means = given.get("results_json", {})
    if not isinstance(means, dict):
        raise GoldenFileError(f"Expected `results_json` to be an object, but got {str(means)[:80]}")
    for ours, name in NAMES.items():
        if name in means:
            with report.case(f"results_json/{name}"):
                _check_means(report, name, table, ours, means[name])
    return report


def _names(given: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the expressions of the meta file that have a prediction; this evaluator leaves out the others."""
    return [
        (video_id, number)
        for video_id, video in given["meta"]["videos"].items()
        for number in video["expressions"]
        if number in given["predictions"].get(video_id, {})
    ]


def _case(given: dict[str, Any], video_id: str, number: str) -> tuple[Prediction, Truth, str]:
    expression = given["meta"]["videos"][video_id]["expressions"][number]
    predicted = BitMasks.of(given["predictions"][video_id][number]["prediction_masks"])
    size = predicted.shape[1:]
    objects = [BitMasks.of(given["mask_dict"][str(name)], size) for name in expression["anno_id"]]
    foreground = BitMasks.of(given["foreground"][video_id]["masks_rle"], size)
    truth = Truth(predicted.shape, objects, foreground)
    return Prediction(predicted.shape, [predicted]), truth, GROUPS[int(expression["type_id"])]


def _check_means(
    report: Report, name: str, table: dict[str, dict[str, float]], ours: str, expected: dict[str, float | None]
) -> None:
    """Compare a mean; where a group has no expressions, this evaluator has no number for it and for overall."""
    groups = ReVOSProtocol.averaged if ours == "overall" else (ours,)
    known = all(group in table for group in groups)
    got = {measure: 100 * table[ours][measure] if known else None for measure in expected}
    report.compare(name, got, expected, atol=1e-6, rtol=0)


def _check_row(report: Report, scores: VideoScores, row: dict[str, Any]) -> None:
    report.compare("type_id", GROUPS.index(scores.group), row["type_id"])
    for name in MEASURES:
        report.compare(name, 100 * scores.row[name], row[name], atol=0.011, rtol=0)
    means = [scores.per_frame[name].mean().item() for name in ("J", "F")]  # averaged before they are rounded
    report.compare("JF", 100 * sum(means) / 2, row["JF"], atol=0.011, rtol=0)
