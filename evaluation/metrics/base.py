"""What the torchmetrics classes share."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric

import torchvision_shim  # noqa: F401


class ExactMetric(Metric):
    """A metric whose states stay float64.

    Some strategies cast the module around a metric to the dtype of its weights, in which numbers would lose digits: of
    what is done to the module, its states follow to another device only.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dtype = torch.float64  # of what a rank without measurements gathers

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Module:
        applied = super()._apply(lambda state: state.to(fn(state).device), exclude_state)
        self._dtype = torch.float64
        return applied


class GroupedMetric(ExactMetric):
    """A number per group of expressions, and over all of them.

    Args:
        groups: their names; without any there is only ``overall``.

    As output ``compute`` returns ``{group: float64 ()}`` with all groups and ``overall``, which takes every expression
    alike; NaN where there was none.
    """

    #: how many sums the number is made of
    parts: ClassVar[int] = 2
    totals: Tensor

    def __init__(self, groups: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = tuple(groups)
        zeros = torch.zeros(len(self.groups) + 1, self.parts, dtype=torch.float64)
        self.add_state("totals", zeros, dist_reduce_fx="sum")

    def add(self, group: str | None, *parts: Tensor | float) -> None:
        """Add the sums of one expression, ``parts`` of them.

        Raises:
            ValueError: if there is no such group.
        """
        if group is not None and group not in self.groups:
            raise ValueError(f"Expected `group` to be None or one of {self.groups}, but got {group!r}")
        row = torch.tensor([float(part) for part in parts], dtype=torch.float64, device=self.totals.device)
        self.totals[-1] += row
        if group is not None:
            self.totals[self.groups.index(group)] += row

    @staticmethod
    def number(totals: Tensor) -> Tensor:
        """Return the number that sums make; a mean by default: the sum of values over their count."""
        return totals[0] / totals[1]

    def compute(self) -> dict[str, Tensor]:
        """Return the number of each group and overall, on all ranks."""
        return {name: self.number(row) for name, row in zip((*self.groups, "overall"), self.totals, strict=True)}
