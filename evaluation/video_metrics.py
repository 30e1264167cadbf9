"""The table of a benchmark as a torchmetrics class: sums over expressions, one process or many."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric

from evaluation.cases import Prediction, Truth
from evaluation.protocols.base import BenchmarkProtocol, Row


class VideoMetrics(Metric):
    """The measures of a benchmark, per group and overall; the mean reward too, where there is one.

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

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    sums: Tensor
    counts: Tensor

    def __init__(self, protocol: BenchmarkProtocol, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol = protocol
        #: columns of the states
        self.names = (*protocol.measures, "reward")
        self.rows = protocol.groups or ("overall",)
        for state in ("sums", "counts"):
            zeros = torch.zeros(len(self.rows), len(self.names), dtype=torch.float64)
            self.add_state(state, zeros, dist_reduce_fx="sum")

    def update(
        self, prediction: Prediction, truth: Truth, group: str | None = None, reward: float | None = None
    ) -> None:
        """Measure one expression."""
        for scores in self.protocol.score(prediction, truth, group):
            self.add(scores.group, scores.row | {"reward": math.nan if reward is None else reward})

    def add(self, group: str, row: Row) -> None:
        """Count what was measured."""
        values = [row.get(name, math.nan) for name in self.names]
        column = torch.tensor(values, dtype=torch.float64, device=self.sums.device)
        self.sums[self.rows.index(group)] += column.masked_fill(column.isnan(), 0.0)
        self.counts[self.rows.index(group)] += ~column.isnan()

    def compute(self) -> dict[str, Row]:
        """Return the table of everything measured since the last ``reset``, on all ranks."""
        return self.table()

    def table(self) -> dict[str, Row]:
        """Return the table of what was measured or added here."""
        means = (self.sums / self.counts).tolist()
        given = {
            name: dict(zip(self.names, row, strict=True))
            for name, row, counts in zip(self.rows, means, self.counts, strict=True)
            if counts.any()
        }
        table = self.protocol.table(given)
        if bool(self.counts[:, -1].any()):
            return table
        return {name: {key: value for key, value in row.items() if key != "reward"} for name, row in table.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Module:
        # Some strategies cast the module around it to the dtype of its weights; a sum over a benchmark stays float64.
        return super()._apply(lambda state: fn(state).to(state.dtype), exclude_state)
