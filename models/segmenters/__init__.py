"""Frozen models that turn prompts into masks."""

import torchvision_shim  # noqa: F401
from models.segmenters.sam2 import SAM2Segmenter as SAM2Segmenter
