"""The table of a benchmark as a torchmetrics class: rows of expressions, from one process or many."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from evaluation.cases import Prediction, Truth
from evaluation.metrics import ExactMetric
from evaluation.protocols.base import BenchmarkProtocol, Row


class VideoMetrics(ExactMetric):
    """The measures of a benchmark, per group and overall; the mean reward too, where there is one.

    What is kept is a row of numbers per expression, a hundred bytes, because some benchmarks make their table of more
    than sums. Several processes put theirs one after another.

    Args:
        protocol: of the benchmark.

    As input to ``update`` the metric accepts one expression:

    - prediction: what was predicted.
    - truth: what is annotated.
    - group: name the protocol knows, or None.
    - reward: or None.

    As output ``compute`` returns ``{row: {measure: number}}``, and "reward" if there was any: means over expressions,
    NaN where there was nothing to average. Rows are those of ``protocol.groups`` that have expressions, and "overall".
    """

    measured: list[Tensor]

    def __init__(self, protocol: BenchmarkProtocol, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol = protocol
        #: of what ``measured`` are the numbers: the group's place among ``groups``, then each of ``names``
        self.groups = (*protocol.groups, "overall")
        self.names = (*protocol.measures, "reward")
        self.add_state("measured", [], dist_reduce_fx="cat")

    def update(
        self, prediction: Prediction, truth: Truth, group: str | None = None, reward: float | None = None
    ) -> None:
        """Measure one expression."""
        for scores in self.protocol.score(prediction, truth, group):
            self.add(scores.group, scores.row | ({} if reward is None else {"reward": reward}))

    def add(self, group: str, row: Row) -> None:
        """Count what was measured."""
        numbers = [float(self.groups.index(group)), *(row.get(name, math.nan) for name in self.names)]
        self.measured.append(torch.tensor(numbers, dtype=torch.float64, device=self.device))

    def compute(self) -> dict[str, Row]:
        """Return the table of everything measured since the last ``reset``, on all ranks."""
        return self.table()

    def table(self) -> dict[str, Row]:
        """Return the table of what was measured or added here."""
        rows: dict[str, list[Row]] = {name: [] for name in self.groups}
        measured = dim_zero_cat(self.measured).reshape(-1, 1 + len(self.names)).tolist() if len(self.measured) else []
        for place, *numbers in measured:
            known = {name: number for name, number in zip(self.names, numbers, strict=True) if not math.isnan(number)}
            rows[self.groups[int(place)]].append(known)
        return self.protocol.table(rows)
