"""The measures as torchmetrics classes: means per group of expressions, in one process or many."""

from evaluation.metrics.base import ExactMetric, GroupedMetric
from evaluation.metrics.frames import BoundaryAccuracy, JAndF, RegionSimilarity, Robustness
from evaluation.metrics.images import CIoU, GIoU
from evaluation.metrics.videos import NoTargetAccuracy, TargetAccuracy, TemporalIoU, TrackMAP, VideoIoU

__all__ = [
    "BoundaryAccuracy",
    "CIoU",
    "ExactMetric",
    "GIoU",
    "GroupedMetric",
    "JAndF",
    "NoTargetAccuracy",
    "RegionSimilarity",
    "Robustness",
    "TargetAccuracy",
    "TemporalIoU",
    "TrackMAP",
    "VideoIoU",
]
