"""The measures themselves: pure functions of masks."""

from evaluation.functional.bitmasks import BitMasks, Masks
from evaluation.functional.frames import (
    BoundaryCounts,
    RegionCounts,
    boundary_accuracy,
    boundary_counts,
    boundary_radius,
    region_counts,
    region_similarity,
    robustness,
)
from evaluation.functional.revos import official_accuracy, official_robustness

__all__ = [
    "BitMasks",
    "BoundaryCounts",
    "Masks",
    "RegionCounts",
    "boundary_accuracy",
    "boundary_counts",
    "boundary_radius",
    "official_accuracy",
    "official_robustness",
    "region_counts",
    "region_similarity",
    "robustness",
]
