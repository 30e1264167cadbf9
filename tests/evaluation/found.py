"""Evaluations as small as they come."""

import math

from evaluation.results import Evaluation, Result

COLUMNS = {"J": "J", "F": "F", "JF": "J&F", "R": "R 0/255"}


def result(number: int, j: float, f: float, group: str = "referring", **fields) -> Result:
    """An expression of two frames whose J is 0.1 below and above its mean."""
    return Result(
        "toy/a",
        str(number),
        f"expression {number}",
        group,
        {"J": j, "F": f, "R": math.nan},
        {"J": [j - 0.1, j + 0.1], "F": [f, f]},
        ["00000", "00005"],
        **fields,
    )


def evaluation(results: list[Result] | None = None, problems: list[str] | None = None) -> Evaluation:
    """A table of three rows, not all of whose measures apply."""
    table = {
        "overall": {"J": 0.25, "F": 0.5, "JF": 0.375, "R": 1 / 3},
        "referring": {"J": 0.5, "F": 0.5, "JF": 0.5, "R": 1 / 3},
        "absent": {"J": 0.0, "F": 0.5, "JF": 0.25, "R": math.nan},
    }
    results = [result(0, 0.5, 0.5), result(1, 0.0, 0.5, "absent")] if results is None else results
    return Evaluation({"dataset": "ReVOS", "split": "valid_u"}, COLUMNS, table, results, problems or [])
