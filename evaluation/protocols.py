"""How benchmarks average."""

import math

from torch import Tensor

from evaluation.metrics import BenchmarkProtocol, Row, VideoScores

__all__ = ["BenchmarkProtocol", "MeViSProtocol", "ReVOSProtocol"]


class ReVOSProtocol(BenchmarkProtocol):
    """ReVOS (VISA, arXiv 2407.11325): overall is the unweighted mean of the referring and the reasoning mean.

    Expressions whose target is absent have a row of their own and count nowhere else.

    Args:
        official: as VISA's tool: R of masks stored as 0/255 (each wrong pixel counts 255 times), and each expression's
            percentages rounded to two decimals before they are averaged.
    """

    groups = ("referring", "reasoning", "absent")

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
        return {name: _mean([row[name] for row in kinds]) for name in next(iter(rows.values()))}

    def score(self, pred: Tensor, target: Tensor, foreground: Tensor | None) -> VideoScores:
        """Return the means over frames of J, F and R; see `BenchmarkProtocol.score`."""
        scores = super().score(pred, target, foreground)
        return VideoScores(*(round(100 * score, 2) / 100 for score in scores)) if self.official else scores


class MeViSProtocol(BenchmarkProtocol):
    """MeViS (arXiv 2308.08544): the plain mean over expressions; whatever groups they are in."""

    def row(self, group: str | None) -> str:
        """Return ``overall``."""
        return "overall"

    def overall(self, rows: dict[str, Row]) -> Row:
        """Return the only row."""
        return rows["overall"]


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
