"""The measures themselves: pure functions of masks."""

from evaluation.functional.bitmasks import BitMasks, Masks
from evaluation.functional.boundaries import BoundaryCounts, boundary_accuracy, boundary_counts, boundary_radius
from evaluation.functional.images import ciou, giou, image_iou
from evaluation.functional.regions import RegionCounts, region_counts, region_similarity
from evaluation.functional.revos import accuracy, official_accuracy, official_robustness, robustness
from evaluation.functional.temporal import no_target_accuracy, target_accuracy, temporal_iou, video_iou
from evaluation.functional.tracks import (
    MOST_TRACKS,
    THRESHOLDS,
    FrameScores,
    assigned_scores,
    average_precision,
    found_tracks,
    official_average_precision,
    track_iou,
    without_overlaps,
)

__all__ = [
    "MOST_TRACKS",
    "THRESHOLDS",
    "BitMasks",
    "BoundaryCounts",
    "FrameScores",
    "Masks",
    "RegionCounts",
    "accuracy",
    "assigned_scores",
    "average_precision",
    "boundary_accuracy",
    "boundary_counts",
    "boundary_radius",
    "ciou",
    "found_tracks",
    "giou",
    "image_iou",
    "no_target_accuracy",
    "official_accuracy",
    "official_average_precision",
    "official_robustness",
    "region_counts",
    "region_similarity",
    "robustness",
    "target_accuracy",
    "temporal_iou",
    "track_iou",
    "video_iou",
    "without_overlaps",
]
