"""Long-RVOS."""

from collections.abc import Sequence

from evaluation.cases import Prediction, Truth
from evaluation.functional import temporal_iou, video_iou
from evaluation.protocols.base import BenchmarkProtocol, Missing, Row, Rule


class LongRVOSProtocol(BenchmarkProtocol):
    """Long-RVOS (arXiv 2505.12702): J, F, tIoU and vIoU, over all expressions and by what they speak of.

    Args:
        official: as its tool: a missing picture is an empty mask, but without the first of an expression the tool
            stops, and averages over the others. An object without any mask on disk is absent to it, and here an
            annotation that is broken.
    """

    datasets = ("LongRVOS",)
    groups = ("static", "dynamic", "hybrid")
    measures = ("J", "F", "tIoU", "vIoU")
    columns = {"J": "J", "F": "F", "JF": "J&F", "tIoU": "tIoU", "vIoU": "vIoU"}
    tool_name = "eval/eval_long_rvos of iSEE-Laboratory/Long_RVOS"
    tool = Missing("zero", "drop", "empty")

    def rule(self, prediction: Prediction) -> Rule:
        """Return what becomes of the frames that are missing."""
        rule = super().rule(prediction)
        return "drop" if rule == "empty" and 0 in prediction.missing else rule

    def per_video(self, prediction: Prediction, truth: Truth, row: str, wrong: Sequence[int]) -> Row:
        """Return tIoU and vIoU."""
        masks = prediction.mask, truth.target
        return {"tIoU": float(temporal_iou(*masks, wrong)), "vIoU": float(video_iou(*masks, wrong))}
