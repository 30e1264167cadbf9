"""What a benchmark's protocol is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
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

    ``zero``: the worst number of every measure, mostly 0; ``empty``: it is taken as an empty mask; ``drop``: the
    expression is left out of every mean; ``zero expression``: one such frame makes every measure of its expression 0.
    Where the tool stops, or is a server, or makes the predictions itself, it has no number of its own: ``zero``.

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


class BenchmarkProtocol:
    """How a benchmark turns masks into a table: what it measures per expression, and what it averages over what.

    Predictions that are missing or unusable count 0. A subclass says what differs from J and F of every frame, averaged
    over frames and then over expressions.

    Args:
        official: do exactly what the benchmark's published tool does, defects included.
    """

    #: names of the dataset classes it is the default of
    datasets: ClassVar[tuple[str, ...]] = ()
    #: rows of the table besides ``overall``
    groups: ClassVar[tuple[str, ...]] = ()
    #: groups whose means make ``overall``; without any it is the mean over all expressions
    averaged: ClassVar[tuple[str, ...]] = ()
    #: what `score` gives per expression
    measures: ClassVar[tuple[str, ...]] = ("J", "F")
    #: columns of the table -> their headings
    columns: ClassVar[dict[str, str]] = {"J": "J", "F": "F", "JF": "J&F"}
    #: the column of ``overall`` by which runs are compared, the higher the better
    headline: ClassVar[str] = "JF"
    #: the published tool, and its rule for what is missing
    tool_name: ClassVar[str] = "none is published"
    tool: ClassVar[Missing] = Missing()
    #: decimals to which it rounds an expression's percentages before they are averaged; None does not
    decimals: ClassVar[int | None] = None
    #: whether `units` hold several expressions
    together: ClassVar[bool] = False

    def __init__(self, official: bool = False) -> None:
        self.official = official

    def setting(self) -> dict[str, str]:
        """Return what belongs to the numbers: which protocol it is, and by whose rules."""
        official = f"official: as the published tool does, defects included ({self.tool_name})"
        ours = "ours: what is missing counts 0, defects of the published tool are repaired"
        return {"protocol": type(self).__name__, "rules": official if self.official else ours}

    def row(self, group: str | None) -> str:
        """Return the row of the table that an expression of ``group`` counts in.

        Raises:
            ValueError: if the benchmark has groups, but no such one.
        """
        if not self.groups:
            return "overall"
        if group not in self.groups:
            raise ValueError(
                f"Expected `group` to be one of {self.groups}, but got {group!r}: {type(self).__name__} is not the "
                "protocol of this dataset; `OwnVideosProtocol` asks for no groups"
            )
        return group

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
        row, rule = self.row(group), self.rule(prediction)
        if rule == "drop":
            return []
        wrong = {"empty": (), "zero": prediction.missing, "zero expression": tuple(range(truth.shape[0]))}[rule]
        scores = []
        unknown = dict.fromkeys(self.measures, math.nan)
        for frames in self.unit_frames(prediction, truth):
            for values in frames.values():
                values[list(wrong)] = 0.0
            means = {name: float(values.numpy().mean()) for name, values in frames.items()}
            measured = self.per_video(prediction, truth, row, wrong)
            scores.append(VideoScores(row, self._rounded(unknown | means | measured), frames))
        return scores

    def rule(self, prediction: Prediction) -> Rule:
        """Return what becomes of the frames that are missing."""
        if not prediction.missing:
            return "empty"
        if not self.official:
            return "zero"
        return getattr(self.tool, prediction.lost or "frame")  # type: ignore[no-any-return]

    def unit_frames(self, prediction: Prediction, truth: Truth) -> Iterator[dict[str, Tensor]]:
        """Yield `per_frame` of each expression of a unit."""
        yield self.per_frame(prediction, truth)

    def per_frame(self, prediction: Prediction, truth: Truth) -> dict[str, Tensor]:
        """Return the measures that are means over frames, ``float64 (T,)`` each."""
        masks = prediction.mask, truth.target, truth.void
        return {"J": region_similarity(*masks), "F": boundary_accuracy(*masks)}

    def per_video(self, prediction: Prediction, truth: Truth, row: str, wrong: Sequence[int]) -> Row:
        """Return the measures that are no means over frames.

        Args:
            prediction: what was predicted.
            truth: what is annotated.
            row: row of the table in which the expression counts.
            wrong: times that count as answered wrongly.
        """
        return {}

    def table(self, rows: Mapping[str, Sequence[Row]]) -> dict[str, Row]:
        """Return what is printed: the columns of each row that has expressions, and ``overall``.

        Args:
            rows: row of the table -> measures of each of its expressions, in the order of the dataset. A "reward" in
                them is averaged too.
        """
        groups = {name: self.summary(rows[name]) for name in self.groups if rows.get(name)}
        pooled = self.summary([row for each in rows.values() for row in each])
        shown = groups | {"overall": self.overall(groups, pooled)}
        names = [*self.columns, *(["reward"] if "reward" in pooled else [])]
        return {name: {column: row[column] for column in names} for name, row in shown.items()}

    def summary(self, rows: Sequence[Row]) -> Row:
        """Return the columns over some expressions: means, and what is made of them."""
        names = [*self.measures, *(["reward"] if any("reward" in row for row in rows) else [])]
        means = {name: mean([row.get(name, math.nan) for row in rows]) for name in names}
        return means | ({"JF": (means["J"] + means["F"]) / 2} if "JF" in self.columns else {})

    def overall(self, groups: Mapping[str, Row], pooled: Row) -> Row:
        """Return the columns of the row ``overall``.

        Args:
            groups: columns of each group that has expressions.
            pooled: columns over all expressions.
        """
        if not self.averaged:
            return pooled
        kinds = [groups[name] for name in self.averaged if name in groups]
        return {name: mean([row.get(name, math.nan) for row in kinds]) for name in pooled}

    def _rounded(self, row: Row) -> Row:
        if not self.official or self.decimals is None:
            return row
        # numpy rounds other than Python, and the tools round numpy's numbers
        return {name: float(np.round(100 * np.float64(value), self.decimals)) / 100 for name, value in row.items()}


def mean(values: Sequence[float]) -> float:
    """Return the mean of the numbers among ``values``, NaN if there are none."""
    return float(torch.tensor(values, dtype=torch.float64).nanmean())
