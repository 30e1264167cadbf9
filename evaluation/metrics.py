"""Video object segmentation metrics as torchmetrics: sums over expressions, one process or many."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric

from evaluation.functional import boundary_accuracy, region_similarity, robustness

Row = dict[str, float]


class VideoScores(NamedTuple):
    """What one prediction is worth, fractions in [0, 1]; NaN where a number does not apply."""

    J: float
    F: float
    R: float


class BenchmarkProtocol(ABC):
    """How a benchmark turns masks into a table: what it measures per expression, and what it averages over what.

    Args:
        official: do exactly what the benchmark's published tool does.
    """

    #: rows of the table besides ``overall``
    groups: ClassVar[tuple[str, ...]] = ()

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
        """Return the row ``overall`` from the means of the others; J, F, R and whatever else they hold."""

    def score(self, pred: Tensor, target: Tensor, foreground: Tensor | None) -> VideoScores:
        """Return the means over frames of J, F and R.

        Args:
            pred: ``bool (T, H, W)``.
            target: ``bool (T, H, W)``.
            foreground: ``bool (T, H, W)``, every annotated object of the video; None leaves R out.

        Raises:
            ValueError: if the masks do not fit together, or there is no frame.
        """
        if pred.shape[0] == 0:
            raise ValueError(f"Expected at least one frame, but got masks of shape {tuple(pred.shape)}")
        similarity, accuracy = region_similarity(pred, target), boundary_accuracy(pred, target)
        robust = math.nan if foreground is None else float(robustness(pred, target, foreground, self.official).mean())
        return VideoScores(float(similarity.mean()), float(accuracy.mean()), robust)


class VideoMetrics(Metric):
    """J, F, J&F and R of a benchmark, per group and overall; the mean reward too, where there is one.

    Args:
        protocol: of the benchmark.

    As input to ``update`` the metric accepts one expression:

    - pred: ``bool (T, H, W)``.
    - target: ``bool (T, H, W)``.
    - foreground: ``bool (T, H, W)``, the union of every annotated object of the video, or None: no R.
    - group: name the protocol knows, or None.
    - reward: or None.

    As output ``compute`` returns ``{row: {"J", "F", "JF", "R"}}``, and "reward" if there was any: means over
    expressions, fractions in [0, 1], NaN where there was nothing to average. "JF" is the mean of J and F. Rows are
    those of ``protocol.groups`` that have expressions, and "overall".
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    #: columns of the states
    NAMES: ClassVar[tuple[str, ...]] = (*VideoScores._fields, "reward")

    sums: Tensor
    counts: Tensor

    def __init__(self, protocol: BenchmarkProtocol, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol = protocol
        shape = (len(self._rows), len(self.NAMES))
        self.add_state("sums", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        pred: Tensor,
        target: Tensor,
        foreground: Tensor | None = None,
        group: str | None = None,
        reward: float | None = None,
    ) -> None:
        """Measure one expression."""
        row = self._rows.index(self.protocol.row(group))
        scores = (*self.protocol.score(pred, target, foreground), math.nan if reward is None else reward)
        values = torch.tensor(scores, dtype=torch.float64, device=self.sums.device)
        self.sums[row] += values.masked_fill(values.isnan(), 0.0)
        self.counts[row] += ~values.isnan()

    def compute(self) -> dict[str, Row]:
        """Return the table of everything measured since the last ``reset``, on all ranks."""
        means = (self.sums / self.counts).tolist()
        rows = {name: dict(zip(self.NAMES, row, strict=True)) for name, row in zip(self._rows, means, strict=True)}
        given = {name: row for name, row in rows.items() if not math.isnan(row["J"])}
        table = {name: row for name, row in given.items() if name in self.protocol.groups}
        empty = dict.fromkeys(self.NAMES, math.nan)
        table["overall"] = self.protocol.overall(given) if given else empty
        rewarded = bool(self.counts[:, -1].any())
        return {name: self._present(row, rewarded) for name, row in table.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Module:
        # Some strategies cast the module around it to the dtype of its weights; a sum over a benchmark stays float64.
        return super()._apply(lambda state: fn(state).to(state.dtype), exclude_state)

    @property
    def _rows(self) -> tuple[str, ...]:
        return self.protocol.groups or ("overall",)

    def _present(self, row: Row, rewarded: bool) -> Row:
        shown = {"J": row["J"], "F": row["F"], "JF": (row["J"] + row["F"]) / 2, "R": row["R"]}
        return shown | {"reward": row["reward"]} if rewarded else shown
