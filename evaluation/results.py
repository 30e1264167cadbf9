"""What an evaluation found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from evaluation.protocols.base import Row

_J_AND_F = {"J", "F"}


@dataclass(frozen=True)
class Result:
    """What was measured of one expression.

    Args:
        video_id: name of the video.
        expression_id: name of the expression.
        expression: the sentence.
        group: row of the table in which it counts.
        row: the measures.
        per_frame: those that are means over frames, a number for each of ``frame_names``; of 8 bytes, because a
            benchmark has millions of them.
        frame_names: names of the frames that were measured.
        problems: what was missing or unusable, a sentence each, which names the expression.
        counted: False where the published tool leaves the expression out.
        missing: how many of the measured frames had no usable prediction.
        lost: ``expression`` if nothing at all was predicted for it, ``video`` if neither for any other of its video.
        measurable: False where the annotation cannot be used; a problem says why, and ``counted`` is False too.
    """

    video_id: str
    expression_id: str
    expression: str
    group: str
    row: Row
    per_frame: dict[str, Sequence[float]]
    frame_names: list[str]
    problems: list[str] = field(default_factory=list)
    counted: bool = True
    missing: int = 0
    lost: Literal["video", "expression"] | None = None
    measurable: bool = True

    @property
    def key(self) -> str:
        """Name that is unique within the dataset."""
        return f"{self.video_id}/{self.expression_id}"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        setting: what belongs to the numbers: dataset, split, protocol, whether it is the official one, encoding …
        columns: measures of the table -> their headings.
        table: measures per row.
        results: of every expression, in the order of the dataset.
        problems: of the predictions as a whole (unknown videos, further files), a sentence each.
    """

    setting: dict[str, str]
    columns: dict[str, str]
    table: dict[str, Row]
    results: list[Result]
    problems: list[str] = field(default_factory=list)

    @property
    def headline(self) -> str | None:
        """Heading of the number by which expressions are compared, None if they have none of their own."""
        if self.columns.keys() >= _J_AND_F:
            return "J&F"
        first = next((name for result in self.results for name in result.per_frame), None)
        return first if first is None else self.columns.get(first, first)

    def worth(self, result: Result) -> float:
        """Return the number by which expressions are compared: J&F, or the first measure that is a mean over frames.

        NaN where it does not apply.
        """
        names = [*sorted(_J_AND_F)] if self.columns.keys() >= _J_AND_F else [*result.per_frame][:1]
        values = [result.row.get(name, math.nan) for name in names]
        return sum(values) / len(values) if values else math.nan
