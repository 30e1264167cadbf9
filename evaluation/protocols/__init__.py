"""How each benchmark measures and averages."""

from evaluation.protocols.base import BenchmarkProtocol, Missing, Row, VideoScores
from evaluation.protocols.mevis import MeViSProtocol
from evaluation.protocols.revos import ReVOSProtocol

__all__ = ["BenchmarkProtocol", "MeViSProtocol", "Missing", "ReVOSProtocol", "Row", "VideoScores"]
