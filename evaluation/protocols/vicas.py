"""ViCaS."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.cases import Prediction, Truth
from evaluation.functional import (
    THRESHOLDS,
    average_precision,
    found_tracks,
    official_average_precision,
    track_iou,
)
from evaluation.protocols.base import BenchmarkProtocol, Row

_FOUND = tuple(f"found@{round(100 * threshold)}" for threshold in THRESHOLDS)


class ViCaSProtocol(BenchmarkProtocol):
    """ViCaS (arXiv 2412.09754), language-guided segmentation: track-mAP over the objects of all expressions.

    An expression's ``found@…`` say which of its tracks find an object at a threshold of IoU, as a binary number: bit k
    is track k. Empty tracks are no tracks.

    Args:
        official: as its evaluator, whose numbers depend on the order of expressions, because tracks have no scores. So
            it needs one process. Empty tracks are wrong ones. It stops where a prediction is missing.
    """

    datasets = ("ViCaS",)
    measures = (*_FOUND, "tracks", "objects")
    columns = {"mAP": "mAP", "AP50": "AP50", "AP75": "AP75", "AP90": "AP90"}
    headline = "mAP"
    tool_name = "vicas/evaluation/seg_eval.py of Ali2500/ViCaS"

    def per_frame(self, prediction: Prediction, truth: Truth) -> dict[str, Tensor]:
        """Return nothing: tracks are compared over all frames at once."""
        return {}

    def per_video(self, prediction: Prediction, truth: Truth, row: str, wrong: Sequence[int]) -> Row:
        """Return which tracks find an object, and how many tracks and objects there are."""
        tracks = [track for track in prediction.tracks if self.official or track.areas().any()]
        found = found_tracks(track_iou(tracks, truth.objects), self.official)
        bits = [sum(1 << track for track in level.nonzero().flatten().tolist()) for level in found]
        counts = {"tracks": float(found.shape[1]), "objects": float(len(truth.objects))}
        return dict(zip(_FOUND, map(float, bits), strict=True)) | counts

    def summary(self, rows: Sequence[Row]) -> Row:
        """Return the average precisions and their mean."""
        found = torch.cat([_flags(row) for row in rows] or [torch.zeros(len(_FOUND), 0, dtype=torch.bool)], dim=1)
        objects = round(sum(row["objects"] for row in rows))
        if self.official and rows:
            precisions = official_average_precision(found, objects)
        else:
            precisions = average_precision(found.sum(dim=1), found.shape[1], objects)
        by_threshold = dict(zip((name.replace("found@", "AP") for name in _FOUND), precisions.tolist(), strict=True))
        return super().summary(rows) | {"mAP": float(precisions.mean())} | by_threshold


def _flags(row: Row) -> Tensor:
    """Return what an expression's tracks found, ``bool (10, P)``."""
    tracks = range(round(row["tracks"]))
    return torch.tensor([[int(row[name]) >> track & 1 for track in tracks] for name in _FOUND]).bool()
