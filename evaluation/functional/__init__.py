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

__all__ = [
    "BitMasks",
    "BoundaryCounts",
    "Masks",
    "RegionCounts",
    "boundary_accuracy",
    "boundary_counts",
    "boundary_radius",
    "region_counts",
    "region_similarity",
    "robustness",
]
