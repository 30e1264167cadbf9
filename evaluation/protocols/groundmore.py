"""GroundMoRe."""

from evaluation.protocols.base import BenchmarkProtocol


class GroundMoReProtocol(BenchmarkProtocol):
    """GroundMoRe (arXiv 2411.09921): the mean over questions, of 20 evenly spaced frames of the sorted video.

    Args:
        official: the same. Its tool takes frames in the order in which the file system lists them, which no other
            machine can repeat, and makes the predictions itself, so that none is missing.
    """

    datasets = ("GroundMoRe",)
    groups = ("causal", "sequential", "counterfactual", "descriptive")
    tool_name = "the evaluation of GroundMoRe, but for the order of frames, which depends on the file system"
