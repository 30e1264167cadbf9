"""Measures of sets of images as torchmetrics classes."""

from evaluation.functional import Masks, image_iou, region_counts
from evaluation.metrics.base import GroupedMetric


class GIoU(GroupedMetric):
    """gIoU, the mean IoU of images; see `image_iou`.

    As input ``update`` accepts ``pred``, ``target`` and ``void`` (masks of N images) and the ``group``.

    Example:
        >>> import torch
        >>> metric = GIoU()
        >>> metric.update(torch.ones(2, 2, 2) > 0, torch.eye(2).expand(2, 2, 2) > 0)
        >>> metric.compute()
        {'overall': tensor(0.5000, dtype=torch.float64)}
    """

    def update(self, pred: Masks, target: Masks, void: Masks | None = None, group: str | None = None) -> None:
        """Measure images."""
        iou = image_iou(pred, target, void)
        self.add(group, iou.sum(), len(iou))


class CIoU(GroupedMetric):
    """cIoU, the sum of intersections over the sum of unions; see `ciou`.

    As input ``update`` accepts what `GIoU` does.

    Example:
        >>> import torch
        >>> metric = CIoU()
        >>> metric.update(torch.ones(1, 4, 4) > 0, torch.eye(4).expand(1, 4, 4) > 0)
        >>> metric.update(torch.ones(1, 2, 2) > 0, torch.eye(2).expand(1, 2, 2) > 0)
        >>> metric.compute()
        {'overall': tensor(0.3000, dtype=torch.float64)}
    """

    def update(self, pred: Masks, target: Masks, void: Masks | None = None, group: str | None = None) -> None:
        """Count the pixels of images."""
        self.add(group, *(counts.sum() for counts in region_counts(pred, target, void)))
