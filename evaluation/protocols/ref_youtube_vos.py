"""Ref-YouTube-VOS."""

from evaluation.protocols.base import BenchmarkProtocol


class RefYouTubeVOSProtocol(BenchmarkProtocol):
    """Ref-YouTube-VOS (URVOS, ECCV 2020): the mean over expressions.

    The masks of its validation set are kept by a server; this measures those that are public.
    """

    datasets = ("RefYouTubeVOS",)
    tool_name = "the benchmark's server"
