"""ReVOS."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from evaluation.cases import Prediction, Truth
from evaluation.functional import accuracy, no_target_accuracy, official_accuracy, official_robustness, robustness
from evaluation.protocols.base import BenchmarkProtocol, Missing, Row


class ReVOSProtocol(BenchmarkProtocol):
    """ReVOS (VISA, arXiv 2407.11325): overall is the unweighted mean of the referring and the reasoning mean.

    A is the share of pixels that are right, R how little of what was predicted is not the target. VISA's tool compares
    pixels as they are stored, so that both depend on whether predictions are 0/1 or 0/255 images. ``A_255`` and
    ``R_255`` are what it makes of 0/255 images, which published numbers mostly are; ``A`` and ``R`` are free of that.

    Expressions whose target is absent have a row of their own and count nowhere else. ``hallucination`` is the share of
    them for which anything is predicted; no published tool reports it.

    Args:
        official: as VISA's tool, which rounds each expression's percentages to two decimals before they are averaged;
            ``A`` and ``R`` are then what it makes of 0/1 images, where the values of objects that overlap add up. It
            takes frames in the order of the file, here they are sorted: in a sorted file that is the same.
    """

    datasets = ("ReVOS",)
    groups = ("referring", "reasoning", "absent")
    averaged = ("referring", "reasoning")
    measures = ("J", "F", "A", "A_255", "R", "R_255", "hallucination")
    columns = {
        "J": "J",
        "F": "F",
        "JF": "J&F",
        "A": "A",
        "A_255": "A (0/255)",
        "R": "R",
        "R_255": "R (0/255)",
        "hallucination": "halluc.",
    }
    tool_name = "tools/eval_revos.py of cilinyan/VISA"
    tool = Missing("zero", "zero", "zero expression")
    decimals = 2

    def per_frame(self, prediction: Prediction, truth: Truth) -> dict[str, Tensor]:
        """Return J, F, A and, with a foreground, R."""
        frames = super().per_frame(prediction, truth)
        mask, foreground = prediction.mask, truth.foreground
        frames["A"] = official_accuracy(mask, truth.objects, 1) if self.official else accuracy(mask, truth.target)
        frames["A_255"] = official_accuracy(mask, truth.objects, 255)
        if foreground is not None:
            frames["R"] = (
                official_robustness(mask, truth.objects, foreground, 1)
                if self.official
                else robustness(mask, truth.target, foreground)
            )
            frames["R_255"] = official_robustness(mask, truth.objects, foreground, 255)
        return frames

    def per_video(self, prediction: Prediction, truth: Truth, row: str, wrong: Sequence[int]) -> Row:
        """Return whether anything is predicted where there is no target."""
        return {"hallucination": 1 - float(no_target_accuracy(prediction.mask, wrong))} if row == "absent" else {}

    def overall(self, groups: Mapping[str, Row], pooled: Row) -> Row:
        """Return the mean of the rows ``referring`` and ``reasoning``, or the one of them that has expressions."""
        return super().overall(groups, pooled) | {"hallucination": pooled["hallucination"]}
