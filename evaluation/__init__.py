"""The numbers people publish."""

import torchvision_shim  # noqa: F401
from evaluation.metrics import BenchmarkProtocol, VideoMetrics
from evaluation.protocols import MeViSProtocol, ReVOSProtocol

__all__ = ["BenchmarkProtocol", "MeViSProtocol", "ReVOSProtocol", "VideoMetrics"]
