"""ReVOS."""

import math

from torch import Tensor

from evaluation.cases import Prediction, Truth
from evaluation.functional import robustness
from evaluation.protocols.base import BenchmarkProtocol, Missing, Row, VideoScores, mean


class ReVOSProtocol(BenchmarkProtocol):
    """ReVOS (VISA, arXiv 2407.11325): overall is the unweighted mean of the referring and the reasoning mean.

    Expressions whose target is absent have a row of their own and count nowhere else.

    Args:
        official: as VISA's tool: R of masks stored as 0/255 (each wrong pixel counts 255 times), and each expression's
            percentages rounded to two decimals before they are averaged.
    """

    datasets = ("ReVOS",)
    groups = ("referring", "reasoning", "absent")
    measures = ("J", "F", "R")
    columns = {"J": "J", "F": "F", "JF": "J&F", "R": "R"}
    tool = Missing("zero", "zero", "zero expression")

    def row(self, group: str | None) -> str:
        """Return the group itself."""
        if group not in self.groups:
            raise ValueError(
                f"Expected `group` to be one of {self.groups}, but got {group!r}: "
                "use `MeViSProtocol` for a benchmark without groups"
            )
        return group

    def overall(self, rows: dict[str, Row]) -> Row:
        """Return the mean of the rows ``referring`` and ``reasoning``, or the one of them that has expressions."""
        kinds = [rows[name] for name in ("referring", "reasoning") if name in rows]
        return {name: mean([row[name] for row in kinds]) for name in next(iter(rows.values()))}

    def per_frame(self, prediction: Prediction, truth: Truth) -> dict[str, Tensor]:
        """Return J, F and, with a foreground, R."""
        frames = super().per_frame(prediction, truth)
        if truth.foreground is not None:
            frames["R"] = robustness(prediction.mask, truth.target, truth.foreground, self.official)
        return frames

    def score(self, prediction: Prediction, truth: Truth, group: str | None = None) -> list[VideoScores]:
        """Return the means over frames of J, F and R; see `BenchmarkProtocol.score`."""
        scores = super().score(prediction, truth, group)
        for each in scores:
            each.row.setdefault("R", math.nan)
            if self.official:
                each.row.update({name: round(100 * value, 2) / 100 for name, value in each.row.items()})
        return scores
