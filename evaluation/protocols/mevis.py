"""MeViS and MeViSv2."""

from collections.abc import Sequence

from evaluation.cases import Prediction, Truth
from evaluation.functional import no_target_accuracy, target_accuracy
from evaluation.protocols.base import BenchmarkProtocol, Missing, Row


class MeViSProtocol(BenchmarkProtocol):
    """MeViS (arXiv 2308.08544): the plain mean over expressions.

    Args:
        official: as the repository's tool. It stops in the middle of an expression of which a prediction is missing,
            and averages over the others.
    """

    datasets = ("MeViS",)
    tool_name = "tools/eval_mevis.py of FudanCVL/MeViS"
    tool = Missing("zero", "drop", "drop")

    def row(self, group: str | None) -> str:
        """Return ``overall``.

        Raises:
            ValueError: if the expression has no target, as only those of MeViSv2.
        """
        if group == "absent":
            raise ValueError("Expected an expression of MeViS, but got one without a target: use the dataset `MeViSv2`")
        return super().row(group)


class MeViSv2Protocol(BenchmarkProtocol):
    """MeViSv2 (arXiv 2512.10945): J&F over all expressions, N-acc, T-acc, and their mean.

    N-acc is the share of expressions without a target for which nothing is predicted, T-acc the share of the others for
    which something is. J and F of a frame without target and without prediction are 1. No tool is published; as rules
    for what is missing those of MeViS are taken.

    Args:
        official: as the tool of MeViS.
    """

    datasets = ("MeViSv2",)
    groups = ("target", "absent")
    measures = ("J", "F", "N_acc", "T_acc")
    columns = {"J": "J", "F": "F", "JF": "J&F", "N_acc": "N-acc", "T_acc": "T-acc", "final": "Final"}
    tool_name = MeViSProtocol.tool_name
    tool = MeViSProtocol.tool

    def row(self, group: str | None) -> str:
        """Return ``absent`` for that group, which has no target, and else ``target``."""
        return "absent" if group == "absent" else "target"

    def per_video(self, prediction: Prediction, truth: Truth, row: str, wrong: Sequence[int]) -> Row:
        """Return whether it is said rightly that there is a target, or none."""
        if row == "absent":
            return {"N_acc": float(no_target_accuracy(prediction.mask, wrong))}
        return {"T_acc": float(target_accuracy(prediction.mask, wrong))}

    def summary(self, rows: Sequence[Row]) -> Row:
        """Return the means, and the mean of J&F, N-acc and T-acc."""
        means = super().summary(rows)
        return means | {"final": (means["JF"] + means["N_acc"] + means["T_acc"]) / 3}
