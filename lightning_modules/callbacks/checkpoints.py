"""The checkpoints from which a run goes on: after a crash, a preemption, or the end of a job's time."""

import logging
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from datamodules.files import UNFINISHED
from lightning_modules.checkpoints import (
    AtomicCheckpointIO,
    is_whole,
    newest_whole,
    recent_checkpoints,
    step_of,
)
from lightning_modules.files import run_folder
from lightning_modules.preemption import Preempted, StopSignals, requeue
from lightning_modules.random_states import random_states, restore_random_states

logger = logging.getLogger(__name__)

#: Where the checkpoint of Lightning holds what only this callback knows.
_KEY = "recent_checkpoint"


class RecentCheckpoint(ModelCheckpoint):
    """Keeps the newest checkpoints of a run as ``<run folder>/checkpoints/step-<n>.ckpt``; ``last`` is one of them.

    One is written every ``every_n_steps`` optimiser steps, before each validation, at the end, and when the process is
    told to stop. It is taken between two training batches, so that the run continues as if it had never stopped:
    weights, optimiser, schedule, place in the data, counters, and the random states of each rank. A validation that
    was due is made up for.

    ``--ckpt_path last`` goes on from the newest that is whole, and starts afresh if there is none. Then whatever an
    earlier run has left is moved to ``checkpoints.<n>``, never overwritten. Every checkpoint of the trainer, also those
    of other callbacks, is written atomically; one that a full disk refuses is logged as an error and left out.

    SIGTERM and SLURM's SIGUSR1 to any rank are noted, and answered by all ranks together: after the training batch with
    a checkpoint, during a validation, whose checkpoint is there already, after its batch. Then the job is requeued if
    SLURM runs it, and the process ends with status 75.

    Args:
        every_n_steps: optimiser steps between two checkpoints.
        keep: how many are kept, at least 2, so that there is one to fall back on.

    Raises:
        ValueError: if a number is too small.
    """

    def __init__(self, every_n_steps: int = 50, keep: int = 2) -> None:
        for name, value, least in (("every_n_steps", every_n_steps, 1), ("keep", keep, 2)):
            if value < least:
                raise ValueError(f"Expected `{name}` to be at least {least}, but got {value}")
        super().__init__(save_top_k=0)  # it saves nothing of its own accord
        self.every_n_steps = every_n_steps
        self.keep = keep
        self._signals = StopSignals()
        self._period = 0
        self._validation_due = False
        self._stopping = False
        self._unflushed = False
        self._resumed: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is no best among them."""
        return {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have every checkpoint written atomically."""
        super().setup(trainer, pl_module, stage)
        self._folder = _folder(trainer)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the random states of all ranks, and whether a validation comes next."""
        states = random_states(pl_module.device)
        if trainer.world_size > 1:
            gathered: Any = pl_module.all_gather(states)
            states = {name: tensor.cpu() for name, tensor in gathered.items()}
        checkpoint[_KEY] = {
            "random_states": states,
            "world_size": trainer.world_size,
            "validation_due": self._validation_due,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember what `on_train_start` restores."""
        self._resumed = checkpoint.get(_KEY, {})
        if self._resumed.get("validation_due"):
            loops = checkpoint["loops"]["fit_loop"]
            self._resumed["epoch_progress"] = deepcopy(loops["epoch_progress"])
            # Lightning ends a run whose last step is taken before it starts; the validation is still to come.
            loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"] -= 1

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals."""
        self._signals.install(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make room, continue every random sequence, and catch up on a validation."""
        self._signals.install(trainer)
        resumed, self._resumed = self._resumed, {}
        validation_due = resumed.get("validation_due", False)
        if validation_due:
            trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed += 1
        self._period = trainer.global_step // self.every_n_steps
        self._make_room(trainer)
        if resumed:
            _restore_random_states(resumed, trainer, pl_module)
            _begin_epoch(trainer)
        if validation_due:
            _validate(trainer, resumed["epoch_progress"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Leave if told to; the curve is complete up to the checkpoint here, so it is forced to the disk."""
        self._leave_if_stopping(trainer)
        if self._unflushed:
            self._unflushed = False
            for board in trainer.loggers:
                if isinstance(board, TensorBoardLogger) and trainer.is_global_zero:
                    board.experiment.flush()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint, if it is time or a rank was told to stop."""
        self._agree_to_stop(trainer)
        loop = trainer.fit_loop
        assert loop._data_fetcher is not None
        self._validation_due = loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
        # A batch may take several optimiser steps, so a multiple of the period can be stepped over.
        period = trainer.global_step // self.every_n_steps
        if period > self._period or self._validation_due or self._stopping or _is_last(trainer):
            self._save(trainer)
        self._period = period

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: the last batch of the epoch has saved."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave if told to."""
        self._validation_due = False
        self._leave_if_stopping(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave if a rank was told to stop; the checkpoint was written before the validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._agree_to_stop(trainer)
            self._leave_if_stopping(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the last validation, write a checkpoint that needs none."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and _is_last(trainer):
            self._save(trainer)

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        newest = newest_whole(_folder(trainer))
        return set() if newest is None else {str(newest)}

    def _save(self, trainer: Trainer) -> None:
        if self._should_skip_saving_checkpoint(trainer):
            return
        path = self._folder / f"step-{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        self._unflushed = True
        if not trainer.is_global_zero:
            return
        if is_whole(path):  # otherwise the disk is full, and the older ones are needed
            for old in recent_checkpoints(self._folder)[self.keep :]:
                trainer.strategy.remove_checkpoint(old)

    def _agree_to_stop(self, trainer: Trainer) -> None:
        noted = self._signals.noted is not None
        self._stopping = trainer.strategy.reduce_boolean_decision(noted, all=False)

    def _leave_if_stopping(self, trainer: Trainer) -> None:
        if not self._stopping or trainer.sanity_checking:
            return
        if trainer.is_global_zero:
            name = self._signals.noted.name if self._signals.noted else "a signal to another rank"
            newest = newest_whole(self._folder)
            logger.warning(
                "Stopped by %s at step %d; `--ckpt_path last` goes on from '%s'", name, trainer.global_step, newest
            )
        requeue(trainer)
        raise Preempted(trainer.local_rank)

    def _make_room(self, trainer: Trainer) -> None:
        """Move away what is not of this run's past: everything if it starts afresh, else later checkpoints."""
        if trainer.is_global_zero and self._folder.is_dir() and not _is_dry(trainer):
            for unfinished in self._folder.glob(f".*{UNFINISHED}"):
                shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
            foreign = [path for path in recent_checkpoints(self._folder) if step_of(path) > trainer.global_step]
            if trainer.ckpt_path is None:
                foreign = sorted(self._folder.glob("*.ckpt"))
            if foreign:
                _set_aside(foreign)
        trainer.strategy.barrier("RecentCheckpoint.make_room")


def _folder(trainer: Trainer) -> Path:
    return run_folder(trainer) / "checkpoints"


def _is_dry(trainer: Any) -> bool:
    return bool(trainer.fast_dev_run)  # Lightning sets it, and declares it nowhere


def _is_last(trainer: Trainer) -> bool:
    """Say whether the training batch that was just taken is the last one of the run."""
    if trainer.max_steps >= 0 and trainer.global_step >= trainer.max_steps:
        return True
    epochs = trainer.max_epochs
    last_epoch = epochs is not None and epochs >= 0 and trainer.current_epoch + 1 >= epochs
    return last_epoch and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def _restore_random_states(resumed: dict[str, Any], trainer: Trainer, pl_module: LightningModule) -> None:
    was, now = resumed["world_size"], trainer.world_size
    if was != now:
        logger.warning("The checkpoint is of %d ranks, this run of %d: random states start anew", was, now)
        return
    states: dict[str, Tensor] = resumed["random_states"]
    own = states if now == 1 else {name: tensor[trainer.global_rank] for name, tensor in states.items()}
    restore_random_states(own, pl_module.device)


def _begin_epoch(trainer: Trainer) -> None:
    """If the checkpoint is of an epoch's last batch, have Lightning begin the next epoch as it begins every other."""
    progress: Any = trainer.fit_loop.epoch_progress.current  # Lightning declares less than it is
    if progress.ready == progress.processed:
        trainer.fit_loop.reset_restart_stage()


def _validate(trainer: Trainer, epoch_progress: dict[str, Any]) -> None:
    """Validate before the first batch, in the epoch that the checkpoint is of; Lightning may have moved on."""
    loop = trainer.fit_loop
    begun = loop.epoch_progress.state_dict()
    loop.epoch_progress.load_state_dict(epoch_progress)
    loop.epoch_loop.val_loop.restarting = False
    trainer.validating = True
    loop.epoch_loop.val_loop.run()
    trainer.training = True
    loop.epoch_progress.load_state_dict(begun)


def _set_aside(paths: list[Path]) -> None:
    folder = paths[0].parent
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    aside.mkdir()
    names = ", ".join(path.name for path in paths)
    logger.warning("'%s' holds checkpoints that are not of this run's past; moved to '%s': %s", folder, aside, names)
    for path in paths:
        path.rename(aside / path.name)
