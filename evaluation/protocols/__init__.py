"""How each benchmark measures and averages."""

from evaluation.protocols.base import BenchmarkProtocol, Missing, Row, VideoScores
from evaluation.protocols.mevis import MeViSProtocol
from evaluation.protocols.revos import ReVOSProtocol

__all__ = ["BenchmarkProtocol", "MeViSProtocol", "Missing", "ReVOSProtocol", "Row", "VideoScores", "protocol_of"]


def protocol_of(dataset: str) -> type[BenchmarkProtocol]:
    """Return the protocol of a dataset, by the name of its class.

    Raises:
        ValueError: if there is none.
    """
    for protocol in BenchmarkProtocol.__subclasses__():
        if dataset in protocol.datasets:
            return protocol
    raise ValueError(f"Expected the name of a benchmark's dataset, but got {dataset!r}; name a protocol")
