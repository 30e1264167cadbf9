"""Ref-DAVIS17: two protocols, whose numbers are not comparable."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from datamodules.dataset import VideoRecord
from datamodules.ref_davis import ANNOTATORS, RefDAVIS17
from evaluation.cases import Prediction, Truth
from evaluation.functional import assigned_scores, boundary_accuracy, region_similarity, without_overlaps
from evaluation.protocols.base import BenchmarkProtocol, Missing, VideoScores


class RefDAVIS17Protocol(BenchmarkProtocol):
    """Ref-DAVIS17 as VISA and most that followed report it: each expression for itself, and the mean over expressions.

    Void pixels count, as there are none in the masks that VISA's tool reads; see `RefDAVIS17AnnotatorsProtocol` for the
    other protocol.

    Args:
        official: as VISA's tool, which stops in the middle of an expression of which a prediction is missing, and
            averages over the others.
    """

    datasets = ("RefDAVIS17",)
    tool_name = "tools/eval_davis17.py of cilinyan/VISA"
    tool = Missing("zero", "drop", "drop")

    def per_frame(self, prediction: Prediction, truth: Truth) -> dict[str, Tensor]:
        """Return J and F over all pixels."""
        masks = prediction.mask, truth.target
        return {"J": region_similarity(*masks), "F": boundary_accuracy(*masks)}


class RefDAVIS17AnnotatorsProtocol(BenchmarkProtocol):
    """Ref-DAVIS17 as ReferFormer (arXiv 2201.00487) and VideoLISA report it: DAVIS' unsupervised task per annotator.

    What one annotator's expressions about a video lead to is one picture of labels: where predictions overlap, the
    earlier object wins. The objects are assigned to the annotated ones as is best for their mean J and F, outside of
    void. The number of an annotator is the mean over the objects of all videos, the benchmark's the mean of the four.

    Args:
        official: the same; its tool stops where a prediction is missing.
    """

    groups = tuple(f"annotator {number + 1}" for number in range(ANNOTATORS))
    averaged = groups
    tool_name = "evaluation_method.py of davisvideochallenge/davis2017-evaluation, task unsupervised"
    together = True

    def row(self, group: str | None) -> str:
        """Return the annotator; an expression that is not yet in a unit has none."""
        return "overall" if group is None else super().row(group)

    def units(self, records: Sequence[VideoRecord]) -> list[tuple[VideoRecord, ...]]:
        """Return an annotator's expressions about a video, in the order of objects; the annotator is their group.

        Raises:
            ValueError: if an expression has no number.
        """
        units: dict[tuple[str, str], list[tuple[int, VideoRecord]]] = {}
        for record in records:
            if not record.expression_id.isdecimal():
                raise ValueError(
                    f"Expected expressions numbered from 0, four for each object, but got {record.key!r}: "
                    f"{type(self).__name__} is not the protocol of this dataset"
                )
            annotator, label = RefDAVIS17.place(record)
            group = self.groups[annotator]
            units.setdefault((record.video_id, group), []).append((label, replace(record, group=group)))
        return [tuple(record for _, record in sorted(unit, key=lambda each: each[0])) for unit in units.values()]

    def score(self, prediction: Prediction, truth: Truth, group: str | None = None) -> list[VideoScores]:
        """Return what each expression of a unit is worth.

        Args:
            prediction: of all expressions of the unit, by `Prediction.together`.
            truth: with one object for each of them.
            group: the annotator.

        Raises:
            ValueError: if it is no unit, or if the masks do not fit together.
        """
        parts = prediction.parts or (prediction,)
        if group is None or len(parts) != len(truth.objects):
            raise ValueError(
                "Expected every expression of an annotator about a video, one for each object, but got "
                f"{len(parts)} predictions, {len(truth.objects)} objects and the group {group!r}; take `units` and "
                "`Prediction.together`"
            )
        return super().score(prediction, truth, group)

    def unit_frames(self, prediction: Prediction, truth: Truth) -> Iterator[dict[str, Tensor]]:
        """Yield J and F of each object."""
        parts = prediction.parts or (prediction,)
        tracks = without_overlaps([part.mask for part in parts])
        scores = assigned_scores(tracks, truth.objects, truth.void, [part.missing for part in parts])
        for similarity, accuracy in zip(*scores, strict=True):
            yield {"J": similarity, "F": accuracy}
