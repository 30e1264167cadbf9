"""What every training stage shares: the optimiser, and the rule that a step is taken only with finite numbers."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from datamodules.base import VideoDataModule
from dialogues.episode import Episode
from lightning_modules.policy.schedules import warmup_factor
from lightning_modules.segmentation import SegmentationModule
from models.reasoners.base import PolicyOutput

logger = logging.getLogger(__name__)

Gathered = TypeVar("Gathered")


@dataclass
class AdamWConfig:
    """AdamW and its schedule.

    Args:
        learning_rate: after the warm-up.
        weight_decay: on weights of two or more dimensions.
        betas: of the running means.
        warmup_steps: updates until the full learning rate is reached.
        decay_steps: last updates of ``max_steps``, over which the learning rate falls linearly to 0; 0 keeps it.
        released_warmup: start at a learning rate of 0, as Veason-R1's published code did.
    """

    learning_rate: float = 1e-6
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    decay_steps: int = 0
    released_warmup: bool = False


class TrainingModule(SegmentationModule):
    """A segmentation module that learns, in steps of its own (Lightning's manual optimisation).

    Args:
        optimizer: AdamW's settings.
        micro_batch_size: episodes per backward pass; None takes all. The gradient does not depend on it.
        max_grad_norm: gradients are scaled down to this norm.
        max_skipped_steps: steps in a row that may be skipped for a loss or gradient that is no number before the run
            stops.
        **kwargs: of ``SegmentationModule``.
    """

    def __init__(
        self,
        optimizer: AdamWConfig | None = None,
        micro_batch_size: int | None = None,
        max_grad_norm: float = 1.0,
        max_skipped_steps: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.automatic_optimization = False
        self.optimizer = optimizer or AdamWConfig()
        self.micro_batch_size = micro_batch_size
        self.max_grad_norm = max_grad_norm
        self.max_skipped_steps = max_skipped_steps
        self.skipped_steps = 0
        self.skipped_in_a_row = 0

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW over the trainable parameters, and its schedule per update."""
        ndim = self.parallelism.ndim
        matrices = [parameter for parameter in self._trained() if ndim(parameter) >= 2]
        others = [parameter for parameter in self._trained() if ndim(parameter) < 2]
        groups = [
            {"params": matrices, "weight_decay": self.optimizer.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer: Optimizer = AdamW(
            [group for group in groups if group["params"]], lr=self.optimizer.learning_rate, betas=self.optimizer.betas
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._schedule(optimizer), "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counters of skipped steps."""
        checkpoint["skipped_steps"] = {"total": self.skipped_steps, "in_a_row": self.skipped_in_a_row}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        skipped = checkpoint.get("skipped_steps", {"total": 0, "in_a_row": 0})
        self.skipped_steps, self.skipped_in_a_row = skipped["total"], skipped["in_a_row"]

    def forward(self, episodes: Sequence[Episode], temperature: float = 1.0) -> PolicyOutput:
        """Return how likely the policy finds what ``episodes`` wrote: what strategies wrap."""
        return self.reasoner.logprobs(episodes, temperature)

    def _policy(self, episodes: Sequence[Episode], temperature: float = 1.0) -> PolicyOutput:
        """Do what ``forward`` does, with gradient; every rank calls it as often."""
        output: PolicyOutput = self.parallelism.pass_through(self, episodes, temperature)
        return output

    def _step(
        self, episodes: Sequence[Episode], chunks: Sequence[slice], share: Callable[[int, slice], Tensor]
    ) -> None:
        """Take one optimiser step on a loss that comes in shares, which moves nothing if any number is not finite.

        Args:
            episodes: what the loss is about, for the record of a step that was skipped for good.
            chunks: of episodes; as many on every rank. Without any there is no gradient, and nothing moves.
            share: from the number of a chunk and the chunk to its share of the loss. Each share is differentiated
                before the next is computed.
        """
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(schedule, LambdaLR)
        optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for number, chunk in enumerate(chunks):
            with self._reduction(last=number == len(chunks) - 1):
                loss = share(number, chunk)
                # A loss that is no number must have gradients that are none, which reach every rank.
                self.manual_backward(loss if loss.isfinite() else loss * torch.nan)
            total += loss.detach()
        norm = self.parallelism.update(optimizer, self._trained(), self.max_grad_norm)
        schedule.step()
        if norm.isfinite():
            self.skipped_in_a_row = 0
        else:
            self._skip(episodes, total, norm)
        self.log("loss", total, prog_bar=True, sync_dist=True, batch_size=1)
        numbers: dict[str, Tensor | float] = {
            "grad_norm": norm,
            "skipped_steps": float(self.skipped_steps),
            "skipped_samples": self._global_sum(self._skipped_samples()),
        }
        self.log_dict(numbers, prog_bar=True, batch_size=1)

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _reduction(self, last: bool) -> AbstractContextManager[Any]:
        """Let DDP reduce the gradients of all micro-batches once, with the last."""
        strategy = self.trainer.strategy
        return nullcontext() if last or not isinstance(strategy, ParallelStrategy) else strategy.block_backward_sync()

    def _skipped_samples(self) -> int:
        # Lightning sets it when it attaches the data, and declares it nowhere.
        datamodule = vars(self.trainer).get("datamodule")
        return sum(datamodule.skipped.values()) if isinstance(datamodule, VideoDataModule) else 0

    def _skip(self, episodes: Sequence[Episode], loss: Tensor, norm: Tensor) -> None:
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        logger.warning("Step skipped: loss %s, gradient norm %s (%d so far)", loss, norm, self.skipped_steps)
        if self.skipped_in_a_row < self.max_skipped_steps:
            return
        file = Path(self.trainer.default_root_dir) / f"skipped_batch_rank{self.global_rank}.json"
        record = [
            {"sample": e.sample.key, "frame_ids": e.sample.frame_ids, "text": e.last.completion.text,
             "token_ids": e.last.completion.token_ids}
            for e in episodes
        ]  # fmt: skip
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=1), encoding="utf-8")
        raise FloatingPointError(
            f"Expected finite losses and gradients, but {self.skipped_in_a_row} steps in a row had loss {loss} and "
            f"gradient norm {norm}; the last batch is in {file}. Lower `optimizer.learning_rate` or look at the batch"
        )

    def _chunks(self, episodes: Sequence[Episode]) -> list[slice]:
        """Return micro-batches of this rank's episodes; empty ones at the end make them as many on every rank."""
        size = self.micro_batch_size or max(len(episodes), 1)
        most = max(self._gather(-(-len(episodes) // size)))
        return [slice(size * number, size * (number + 1)) for number in range(most)]

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Log how long a phase of the step took, in seconds."""
        start = perf_counter()
        yield
        self.log(f"step_time/{name}", perf_counter() - start, batch_size=1)

    def _schedule(self, optimizer: Optimizer) -> LambdaLR:
        settings = self.optimizer
        last = self.trainer.max_steps
        if settings.decay_steps and last < 1:
            raise ValueError(f"Expected `trainer.max_steps` to be set because `decay_steps` is, but got {last}")

        def factor(update: int) -> float:
            decay = min(1.0, (last - update) / settings.decay_steps) if settings.decay_steps else 1.0
            return warmup_factor(update, settings.warmup_steps, settings.released_warmup) * max(decay, 0.0)

        return LambdaLR(optimizer, factor)

    def _global_sum(self, value: float) -> float:
        """Return the sum of a number over all ranks."""
        return sum(self._gather(value))

    def _gather(self, value: Gathered) -> list[Gathered]:
        """Return every rank's value, in the order of the ranks."""
        gathered: list[Any] = [value] * self.trainer.world_size
        if len(gathered) > 1:
            torch.distributed.all_gather_object(gathered, value)
        return gathered
