"""What a benchmark's protocol is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from datamodules.dataset import VideoRecord
from evaluation.cases import Prediction, Truth
from evaluation.functional import boundary_accuracy, region_similarity

#: measure -> number; fractions in [0, 1] unless the protocol says otherwise, NaN where a measure does not apply
Row = dict[str, float]
#: what a frame or an expression without a usable prediction counts as
Rule = Literal["zero", "empty", "drop", "zero expression"]


class Missing(NamedTuple):
    """What the published tool makes of predictions that are not there.

    ``zero``: every measure is 0; ``empty``: it is taken as an empty mask; ``drop``: the expression is left out of every
    mean; ``zero expression``: one such frame makes every measure of its expression 0.

    Args:
        video: nothing was predicted about the video.
        expression: something was, but nothing for the expression.
        frame: something was, but nothing usable for the frame.
    """

    video: Rule = "zero"
    expression: Rule = "zero"
    frame: Rule = "zero"


@dataclass(frozen=True)
class VideoScores:
    """What one prediction is worth.

    Args:
        group: row of the table in which it counts.
        row: the measures.
        per_frame: those that are means over frames, ``float64 (T,)`` each.
    """

    group: str
    row: Row
    per_frame: dict[str, Tensor]


class BenchmarkProtocol(ABC):
    """How a benchmark turns masks into a table: what it measures per expression, and what it averages over what.

    Predictions that are missing or unusable count 0.

    Args:
        official: do exactly what the benchmark's published tool does, defects included.
    """

    #: names of the dataset classes it is the default of
    datasets: ClassVar[tuple[str, ...]] = ()
    #: rows of the table besides ``overall``
    groups: ClassVar[tuple[str, ...]] = ()
    #: what `score` gives per expression
    measures: ClassVar[tuple[str, ...]] = ("J", "F")
    #: columns of the table -> their headings
    columns: ClassVar[dict[str, str]] = {"J": "J", "F": "F", "JF": "J&F"}
    #: the published tool's rule
    tool: ClassVar[Missing] = Missing()

    def __init__(self, official: bool = False) -> None:
        self.official = official

    @abstractmethod
    def row(self, group: str | None) -> str:
        """Return the row of the table that an expression of ``group`` counts in.

        Raises:
            ValueError: if the benchmark knows no such group.
        """

    @abstractmethod
    def overall(self, rows: dict[str, Row]) -> Row:
        """Return the row ``overall`` from the means of the others; whatever measures they hold."""

    def units(self, records: Sequence[VideoRecord]) -> list[tuple[VideoRecord, ...]]:
        """Return which expressions are scored together: each for itself.

        Tracks and objects of a unit are those of its expressions, in order; `score` gives one result for each.
        """
        return [(record,) for record in records]

    def score(self, prediction: Prediction, truth: Truth, group: str | None = None) -> list[VideoScores]:
        """Return what each expression of a unit is worth; nothing if the published tool leaves it out.

        Raises:
            ValueError: if the masks do not fit together, there is no frame, or no such group.
        """
        if prediction.shape != truth.shape or not truth.shape[0]:
            raise ValueError(
                f"Expected masks of one shape (T, H, W) with at least one frame, but got {prediction.shape} predicted "
                f"and {truth.shape} annotated"
            )
        row, rule = self.row(group), self._rule(prediction)
        if rule == "drop":
            return []
        frames = self.per_frame(prediction, truth)
        if rule == "zero":
            for values in frames.values():
                values[list(prediction.missing)] = 0.0
        means = {name: float(values.mean()) for name, values in frames.items()}
        if rule == "zero expression":
            means = dict.fromkeys(means, 0.0)
        return [VideoScores(row, means, frames)]

    def per_frame(self, prediction: Prediction, truth: Truth) -> dict[str, Tensor]:
        """Return the measures that are means over frames, ``float64 (T,)`` each."""
        masks = prediction.mask, truth.target, truth.void
        return {"J": region_similarity(*masks), "F": boundary_accuracy(*masks)}

    def table(self, means: dict[str, Row]) -> dict[str, Row]:
        """Return what is printed: the columns of each row that has expressions, and ``overall``, from means."""
        rows = {name: row for name, row in means.items() if name in self.groups}
        empty = dict.fromkeys(self.measures, math.nan)
        rows["overall"] = self.overall(means) if means else empty
        return {name: row | {"JF": (row["J"] + row["F"]) / 2} for name, row in rows.items()}

    def _rule(self, prediction: Prediction) -> Rule:
        if not prediction.missing:
            return "empty"
        if not self.official:
            return "zero"
        return getattr(self.tool, prediction.lost or "frame")  # type: ignore[no-any-return]


def mean(values: list[float]) -> float:
    """Return the mean of the numbers among ``values``, NaN if there are none."""
    known = torch.tensor(values, dtype=torch.float64)
    return float(known.nanmean())
