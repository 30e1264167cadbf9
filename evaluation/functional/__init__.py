"""The measures themselves: pure functions of masks."""

from evaluation.functional.bitmasks import BitMasks, Masks
from evaluation.functional.boundaries import BoundaryCounts, boundary_accuracy, boundary_counts, boundary_radius
from evaluation.functional.regions import RegionCounts, region_counts, region_similarity
from evaluation.functional.revos import accuracy, official_accuracy, official_robustness, robustness

__all__ = [
    "BitMasks",
    "BoundaryCounts",
    "Masks",
    "RegionCounts",
    "accuracy",
    "boundary_accuracy",
    "boundary_counts",
    "boundary_radius",
    "official_accuracy",
    "official_robustness",
    "region_counts",
    "region_similarity",
    "robustness",
]
