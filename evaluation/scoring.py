"""From what was predicted for an expression to what it is worth."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.errors import BadSampleError
from evaluation.cases import Prediction, Truth
from evaluation.predictions import Found, Predictions
from evaluation.protocols import BenchmarkProtocol
from evaluation.results import Result
from evaluation.truths import TruthReader, measured_times

#: expressions that are measured together
Unit = tuple[VideoRecord, ...]


@dataclass(frozen=True)
class Outcome:
    """What was found about one unit.

    Args:
        unit: its place in the list of units.
        results: of each of its expressions.
        encodings: how the masks were stored.
    """

    unit: int
    results: list[Result]
    encodings: list[str]


class Scorer:
    """Scores units of a benchmark; any number of threads may.

    Args:
        dataset: what was annotated.
        predictions: what was predicted.
        protocol: how it is measured.
    """

    def __init__(self, dataset: VideoDataset, predictions: Predictions, protocol: BenchmarkProtocol) -> None:
        self.predictions = predictions
        self.protocol = protocol
        self.truths = TruthReader(dataset)

    def __call__(self, number: int, unit: Unit) -> Outcome:
        """Score one unit; an annotation that is broken makes its expressions not measurable."""
        try:
            truth = self.truths.read(unit)
            times = measured_times(unit[0])
            found = [self.predictions.read(record, times, truth.shape[1:]) for record in unit]
        except BadSampleError as error:
            return Outcome(number, [self._unmeasurable(record, error) for record in unit], [])
        encodings = sorted(set().union(*(each.encodings for each in found)))
        return Outcome(number, self._results(unit, found, truth), encodings)

    def _results(self, unit: Unit, found: Sequence[Found], truth: Truth) -> list[Result]:
        scores = self.protocol.score(Prediction.together([each.prediction for each in found]), truth, unit[0].group)
        names = [unit[0].frame_names[time] for time in measured_times(unit[0])]
        results = []
        for place, (record, each) in enumerate(zip(unit, found, strict=True)):
            score = scores[place] if scores else None
            results.append(
                Result(
                    record.video_id,
                    record.expression_id,
                    record.expression,
                    group=self.protocol.row(record.group) if score is None else score.group,
                    row={} if score is None else score.row,
                    per_frame={} if score is None else _arrays(score.per_frame),
                    frame_names=names,
                    problems=[f"{record.key}: {sentence}" for sentence in each.problems],
                    counted=score is not None,
                    missing=len(each.prediction.missing),
                    lost=each.prediction.lost,
                )
            )
        return results

    def _unmeasurable(self, record: VideoRecord, error: BadSampleError) -> Result:
        return Result(
            record.video_id,
            record.expression_id,
            record.expression,
            group=self.protocol.row(record.group),
            row={},
            per_frame={},
            frame_names=[],
            problems=[f"{record.key}: not measurable: {error}"],
            counted=False,
            measurable=False,
        )


def _arrays(per_frame: Mapping[str, Tensor]) -> dict[str, Sequence[float]]:
    return {name: array("d", values.tolist()) for name, values in per_frame.items()}
