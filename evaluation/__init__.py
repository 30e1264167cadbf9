"""The numbers people publish."""

import torchvision_shim  # noqa: F401
from evaluation.cases import Prediction, Truth
from evaluation.protocols import BenchmarkProtocol, MeViSProtocol, ReVOSProtocol, protocol_of
from evaluation.video_metrics import VideoMetrics

__all__ = [
    "BenchmarkProtocol",
    "MeViSProtocol",
    "Prediction",
    "ReVOSProtocol",
    "Truth",
    "VideoMetrics",
    "protocol_of",
]
