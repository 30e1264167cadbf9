"""A user's own videos."""

from evaluation.protocols.base import BenchmarkProtocol


class OwnVideosProtocol(BenchmarkProtocol):
    """J and F, averaged over expressions, whatever groups they are in; no published tool is behind it."""

    datasets = ("OwnVideos",)
