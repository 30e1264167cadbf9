"""ReasonSeg and RefCOCO: sets of images, which are videos of one frame."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.cases import Prediction, Truth
from evaluation.functional import ciou, giou, image_iou, region_counts
from evaluation.protocols.base import BenchmarkProtocol, Row


class RefCOCOProtocol(BenchmarkProtocol):
    """RefCOCO, RefCOCO+ and RefCOCOg: gIoU, the mean over expressions, and cIoU, summed pixels over summed pixels.

    Args:
        official: as LISA's code (arXiv 2308.00692), which adds small numbers to denominators. It makes the predictions
            itself, so that none is missing.
    """

    datasets = ("RefCOCO",)
    measures = ("IoU", "intersection", "union")
    columns = {"gIoU": "gIoU", "cIoU": "cIoU"}
    headline = "gIoU"
    tool_name = "validate in train_ds.py of dvlab-research/LISA"

    def per_frame(self, prediction: Prediction, truth: Truth) -> dict[str, Tensor]:
        """Return the IoU; ignored pixels are void."""
        return {"IoU": image_iou(prediction.mask, truth.target, truth.void, self.official)}

    def per_video(self, prediction: Prediction, truth: Truth, row: str, wrong: Sequence[int]) -> Row:
        """Return the pixels of intersection and union."""
        counts = region_counts(prediction.mask, truth.target, truth.void)
        return {name: float(pixels.sum()) for name, pixels in counts._asdict().items()}

    def summary(self, rows: Sequence[Row]) -> Row:
        """Return gIoU and cIoU."""
        iou, intersection, union = (
            torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in self.measures
        )
        return super().summary(rows) | {
            "gIoU": float(giou(iou, self.official)),
            "cIoU": float(ciou(intersection, union, self.official)) if rows else float("nan"),
        }


class ReasonSegProtocol(RefCOCOProtocol):
    """ReasonSeg (LISA, arXiv 2308.00692): gIoU and cIoU, for phrases, sentences and both."""

    datasets = ("ReasonSeg",)
    groups = ("short", "long")
