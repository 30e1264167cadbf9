"""Ref-SAV."""

from torch import Tensor

from evaluation.cases import Prediction, Truth
from evaluation.functional import accuracy, official_accuracy
from evaluation.protocols.base import BenchmarkProtocol, Missing


class RefSAVProtocol(BenchmarkProtocol):
    """Ref-SAV (Sa2VA, arXiv 2501.04001): J, F and A; overall is the unweighted mean of long and short expressions.

    A is the share of pixels that are right.

    Args:
        official: as Sa2VA's tool, which rounds each expression's percentages to two decimals before they are averaged,
            adds up the values of objects that overlap before A compares them with a 0/1 mask, and stops in the middle
            of an expression of which a prediction is missing.
    """

    datasets = ("RefSAV",)
    groups = ("long", "short")
    averaged = groups
    measures = ("J", "F", "A")
    columns = {"J": "J", "F": "F", "JF": "J&F", "A": "A"}
    tool_name = "the evaluation of Ref-SAV in Sa2VA"
    tool = Missing("drop", "drop", "drop")
    decimals = 2

    def per_frame(self, prediction: Prediction, truth: Truth) -> dict[str, Tensor]:
        """Return J, F and A."""
        mask = prediction.mask
        right = official_accuracy(mask, truth.objects, 1) if self.official else accuracy(mask, truth.target)
        return super().per_frame(prediction, truth) | {"A": right}
