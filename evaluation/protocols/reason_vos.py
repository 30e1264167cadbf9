"""ReasonVOS."""

from evaluation.protocols.base import BenchmarkProtocol, Missing


class ReasonVOSProtocol(BenchmarkProtocol):
    """ReasonVOS (VideoLISA, arXiv 2409.19603): the mean over samples, of annotated frames.

    Args:
        official: as VideoLISA's tool, which leaves out samples without a folder, and stops in the middle of one of
            which a picture is missing.
    """

    datasets = ("ReasonVOS",)
    groups = ("short", "long")
    tool_name = "the evaluation of ReasonVOS in showlab/VideoLISA"
    tool = Missing("drop", "drop", "drop")
