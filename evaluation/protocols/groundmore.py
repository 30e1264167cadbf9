"""GroundMoRe."""

from evaluation.protocols.base import BenchmarkProtocol


class GroundMoReProtocol(BenchmarkProtocol):
    """GroundMoRe (arXiv 2411.09921): the mean over questions, of 20 evenly spaced frames of the sorted video.

    Args:
        official: the same. Its tool makes the predictions itself, so that none is missing; that it takes frames in the
            order in which the file system lists them is `GroundMoRe`'s ``official``, which ``thinkseg evaluate
            --official`` sets too.
    """

    datasets = ("GroundMoRe",)
    groups = ("causal", "sequential", "counterfactual", "descriptive")
    tool_name = "evaluate_groundmore.py of dengandong/GroundMoRe, whose order of frames depends on the file system"
