"""Measures of whole videos as torchmetrics classes."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from evaluation.functional import (
    THRESHOLDS,
    Masks,
    average_precision,
    found_tracks,
    no_target_accuracy,
    target_accuracy,
    temporal_iou,
    track_iou,
    video_iou,
)
from evaluation.metrics.base import GroupedMetric


class _VideoMean(GroupedMetric):
    """The mean over expressions of a measure of a whole video.

    As input ``update`` accepts ``pred`` and ``target`` (masks of T frames) and the ``group``.
    """

    def update(self, pred: Masks, target: Masks, group: str | None = None) -> None:
        """Measure one expression."""
        self.add(group, self.of_video(pred, target), 1.0)

    @staticmethod
    @abstractmethod
    def of_video(pred: Masks, target: Masks) -> Tensor:
        """Return the measure, ``float64 ()``."""


class TemporalIoU(_VideoMean):
    """The temporal IoU of Long-RVOS; see `temporal_iou`.

    Example:
        >>> import torch
        >>> metric = TemporalIoU(["static", "dynamic"])
        >>> metric.update(torch.ones(2, 1, 1) > 0, torch.eye(2).view(2, 2, 1)[:, :1] > 0, group="static")
        >>> {group: float(number) for group, number in metric.compute().items()}
        {'static': 0.5, 'dynamic': nan, 'overall': 0.5}
    """

    @staticmethod
    def of_video(pred: Masks, target: Masks) -> Tensor:
        """Return tIoU."""
        return temporal_iou(pred, target)


class VideoIoU(_VideoMean):
    """The spatio-temporal IoU of Long-RVOS; see `video_iou`.

    Example:
        >>> import torch
        >>> metric = VideoIoU()
        >>> metric.update(torch.ones(2, 2, 2) > 0, torch.eye(2).expand(2, 2, 2) > 0)
        >>> metric.compute()
        {'overall': tensor(0.5000, dtype=torch.float64)}
    """

    @staticmethod
    def of_video(pred: Masks, target: Masks) -> Tensor:
        """Return vIoU."""
        return video_iou(pred, target)


class _AnswerMean(GroupedMetric):
    """The mean over expressions of whether a prediction says rightly that there is a target, or that there is none.

    As input ``update`` accepts ``pred`` (masks of T frames) and the ``group``.
    """

    def update(self, pred: Masks, group: str | None = None) -> None:
        """Measure one expression."""
        self.add(group, self.of_answer(pred), 1.0)

    @staticmethod
    @abstractmethod
    def of_answer(pred: Masks) -> Tensor:
        """Return 1 or 0, ``float64 ()``."""


class NoTargetAccuracy(_AnswerMean):
    """N-acc over expressions without a target; see `no_target_accuracy`.

    Example:
        >>> import torch
        >>> metric = NoTargetAccuracy()
        >>> metric.update(torch.zeros(2, 4, 4, dtype=torch.bool))
        >>> metric.compute()
        {'overall': tensor(1., dtype=torch.float64)}
    """

    @staticmethod
    def of_answer(pred: Masks) -> Tensor:
        """Return whether nothing is masked."""
        return no_target_accuracy(pred)


class TargetAccuracy(_AnswerMean):
    """T-acc over expressions with a target; see `target_accuracy`.

    Example:
        >>> import torch
        >>> metric = TargetAccuracy()
        >>> metric.update(torch.zeros(2, 4, 4, dtype=torch.bool))
        >>> metric.compute()
        {'overall': tensor(0., dtype=torch.float64)}
    """

    @staticmethod
    def of_answer(pred: Masks) -> Tensor:
        """Return whether anything is masked."""
        return target_accuracy(pred)


class TrackMAP(GroupedMetric):
    """Track-mAP of ViCaS, the mean of `average_precision` over its thresholds.

    As input ``update`` accepts ``pred`` and ``target`` (sequences of tracks, masks of T frames each) and the ``group``.

    Example:
        >>> import torch
        >>> metric = TrackMAP()
        >>> tracks = [torch.eye(4).expand(2, 4, 4) > 0]
        >>> metric.update(tracks, tracks)
        >>> metric.update([], tracks)
        >>> metric.compute()
        {'overall': tensor(0.5000, dtype=torch.float64)}
    """

    parts = len(THRESHOLDS) + 2

    def update(self, pred: Sequence[Masks], target: Sequence[Masks], group: str | None = None) -> None:
        """Count the tracks that find an object."""
        found = found_tracks(track_iou(pred, target))
        self.add(group, *found.sum(dim=1), found.shape[1], len(target))

    @staticmethod
    def number(totals: Tensor) -> Tensor:
        """Return the mean over thresholds."""
        return average_precision(totals[:-2], float(totals[-2]), float(totals[-1])).mean()
