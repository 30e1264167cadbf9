"""Frozen models that turn prompts into masks."""

import torchvision_shim  # noqa: F401
from models.segmenters.base import Prompt, Segmenter
from models.segmenters.classic import ClassicSegmenter
from models.segmenters.sam2 import SAM2Segmenter
from models.segmenters.sam2_package import SAM2PackageSegmenter
from models.segmenters.still import StillSegmenter

__all__ = ["ClassicSegmenter", "Prompt", "SAM2PackageSegmenter", "SAM2Segmenter", "Segmenter", "StillSegmenter"]
