"""Measures of frames as torchmetrics classes: J, F, J&F and R."""

from abc import abstractmethod

from torch import Tensor

from evaluation.functional import Masks, boundary_accuracy, region_similarity, robustness
from evaluation.metrics.base import GroupedMetric


class _FrameMean(GroupedMetric):
    """The mean over expressions of a measure's mean over frames.

    As input ``update`` accepts ``pred``, ``target`` and ``void`` (masks of T frames, as in `region_similarity`) and the
    ``group``.
    """

    def update(self, pred: Masks, target: Masks, void: Masks | None = None, group: str | None = None) -> None:
        """Measure one expression."""
        self.add(group, self.per_frame(pred, target, void).mean(), 1.0)

    @staticmethod
    @abstractmethod
    def per_frame(pred: Masks, target: Masks, void: Masks | None) -> Tensor:
        """Return the measure of each frame, ``float64 (T,)``."""


class RegionSimilarity(_FrameMean):
    """The region similarity J; see `region_similarity`.

    Example:
        >>> import torch
        >>> metric = RegionSimilarity(["referring", "reasoning"])
        >>> generator = torch.Generator().manual_seed(0)
        >>> pred, target = torch.rand(2, 3, 8, 8, generator=generator) < 0.5
        >>> metric.update(pred, target, group="referring")
        >>> metric.update(target, target, group="reasoning")
        >>> {group: round(float(number), 4) for group, number in metric.compute().items()}
        {'referring': 0.3908, 'reasoning': 1.0, 'overall': 0.6954}
    """

    @staticmethod
    def per_frame(pred: Masks, target: Masks, void: Masks | None) -> Tensor:
        """Return J of each frame."""
        return region_similarity(pred, target, void)


class BoundaryAccuracy(_FrameMean):
    """The boundary accuracy F; see `boundary_accuracy`.

    Example:
        >>> import torch
        >>> metric = BoundaryAccuracy()
        >>> pred, target = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.1
        >>> metric.update(pred, target)
        >>> round(float(metric.compute()["overall"]), 4)
        0.5583
    """

    @staticmethod
    def per_frame(pred: Masks, target: Masks, void: Masks | None) -> Tensor:
        """Return F of each frame."""
        return boundary_accuracy(pred, target, void)


class JAndF(_FrameMean):
    """J&F, the mean of region similarity and boundary accuracy.

    Example:
        >>> import torch
        >>> metric = JAndF()
        >>> pred, target = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.1
        >>> metric.update(pred, target)
        >>> round(float(metric.compute()["overall"]), 4)
        0.3333
    """

    @staticmethod
    def per_frame(pred: Masks, target: Masks, void: Masks | None) -> Tensor:
        """Return the mean of J and F of each frame."""
        return (region_similarity(pred, target, void) + boundary_accuracy(pred, target, void)) / 2


class Robustness(GroupedMetric):
    """The robustness R of ReVOS; see `robustness`.

    As input ``update`` accepts ``pred``, ``target`` and ``foreground`` (masks of T frames) and the ``group``.

    Example:
        >>> import torch
        >>> metric = Robustness()
        >>> pred, target, foreground = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
        >>> metric.update(pred, target, foreground | target)
        >>> round(float(metric.compute()["overall"]), 4)
        0.6489
    """

    def update(self, pred: Masks, target: Masks, foreground: Masks, group: str | None = None) -> None:
        """Measure one expression."""
        self.add(group, robustness(pred, target, foreground).mean(), 1.0)
