"""How a model lies on the ranks of a run: what training needs of a strategy beyond what Lightning's have."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from models.reasoners.base import Reasoner


class Parallelism:
    """Every rank holds the whole model: one process, or DDP.

    A strategy that shards the model is also a subclass of this, and overrides what its shards need.
    """

    @property
    def shards_weights(self) -> bool:
        """Whether no rank has all weights outside of ``whole_weights``."""
        return False

    @staticmethod
    def of(strategy: Strategy) -> "Parallelism":
        """Return what a strategy does.

        Raises:
            ValueError: if it shards in a way that the modules here cannot train with.
        """
        if isinstance(strategy, Parallelism):
            return strategy
        if isinstance(strategy, DeepSpeedStrategy | FSDPStrategy | ModelParallelStrategy):
            raise ValueError(
                "Expected `trainer.strategy` to be ddp, ZeROStrategy or FSDP2Strategy, but got "
                f"{type(strategy).__name__}: it neither adds up the gradients of micro-batches nor gathers weights for "
                "a rollout; see configs/trainer/deepspeed_zero2.yaml and its neighbours"
            )
        return Parallelism()

    def configure(self, reasoner: Reasoner) -> None:
        """Load the networks of a reasoner, and shard them where that is done before the optimiser exists."""
        reasoner.configure()

    def whole_weights(self, module: nn.Module) -> AbstractContextManager[None]:
        """Inside this context every rank has all weights of a module, and calls it without regard to other ranks.

        Entering and leaving are collective. There are no gradients inside.
        """
        return nullcontext()

    def pass_through(self, module: nn.Module, *args: Any) -> Any:
        """Call ``module.forward(*args)`` for a pass with gradient; every rank makes as many."""
        return module.forward(*args)

    def ndim(self, parameter: nn.Parameter) -> int:
        """Return the number of dimensions of a parameter, also where only a shard of it is here."""
        return parameter.ndim

    def update(self, optimizer: LightningOptimizer, parameters: list[nn.Parameter], max_grad_norm: float) -> Tensor:
        """Clip the gradients, and take a step with them if they are finite.

        A step with other gradients changes neither weights nor moments, but counts as a step.

        Returns:
            Norm of the gradients before clipping, ``()``, the same on every rank.
        """
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        if isinstance(norm, DTensor):  # each rank's share of it
            norm = norm.full_tensor()
        if not norm.isfinite():
            optimizer.zero_grad()  # to None, which the step leaves alone
        optimizer.step()
        return norm
