"""What every training stage shares: the optimiser, and the rule that a step is taken only with finite numbers."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from datamodules.base import VideoDataModule
from dialogues.episode import Episode
from lightning_modules.policy.schedules import warmup_factor
from lightning_modules.segmentation import SegmentationModule

logger = logging.getLogger(__name__)


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
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.optimizer.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer: Optimizer = AdamW(groups, lr=self.optimizer.learning_rate, betas=self.optimizer.betas)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._schedule(optimizer), "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counters of skipped steps."""
        checkpoint["skipped_steps"] = {"total": self.skipped_steps, "in_a_row": self.skipped_in_a_row}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        skipped = checkpoint.get("skipped_steps", {"total": 0, "in_a_row": 0})
        self.skipped_steps, self.skipped_in_a_row = skipped["total"], skipped["in_a_row"]

    def _step(self, episodes: Sequence[Episode], shares: Iterator[Tensor]) -> None:
        """Take one optimiser step on a loss that comes in shares, or none at all if any number is not finite.

        Args:
            episodes: what the loss is about, for the record of a step that was skipped for good.
            shares: losses that add up; each is differentiated before the next is computed. No share is no gradient.
        """
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert not isinstance(optimizer, list)
        assert isinstance(schedule, LambdaLR)
        optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for share in shares:
            self.manual_backward(share)
            total += share.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.max_grad_norm)
        # All ranks together: one that steps alone would leave the others behind.
        finite = self._global_sum(float(not (total + norm).isfinite())) == 0
        if finite:
            optimizer.step()
            schedule.step()
            self.skipped_in_a_row = 0
        else:
            optimizer.zero_grad()
            self._skip(episodes, total, norm)
        numbers: dict[str, Tensor | float] = {
            "loss": total,
            "grad_norm": norm,
            "skipped_steps": float(self.skipped_steps),
            "skipped_samples": float(self._skipped_samples()),
        }
        self.log_dict(numbers, prog_bar=True, batch_size=1)

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
        size = self.micro_batch_size or max(len(episodes), 1)
        return [slice(start, start + size) for start in range(0, len(episodes), size)]

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
        values = self.all_gather(torch.tensor(value, dtype=torch.float64, device=self.device))
        assert isinstance(values, Tensor)
        return float(values.sum())

    def _gather(self, values: Tensor) -> list[Tensor]:
        """Return every rank's tensor; their lengths may differ."""
        if self.trainer.world_size == 1:
            return [values]
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, values.cpu())
        return gathered
