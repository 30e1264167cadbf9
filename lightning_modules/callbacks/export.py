"""The trained reasoner as a folder that opens in plain transformers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.callbacks.base import RunCallback
from lightning_modules.checkpoints import is_whole, newest_whole
from lightning_modules.export import MODEL_FILES, export, write_model
from lightning_modules.files import expect_room
from lightning_modules.model_card import Source
from lightning_modules.parallelism import Parallelism
from lightning_modules.weights import read_weights

logger = logging.getLogger(__name__)


class HFExport(RunCallback):
    """Writes what ``thinkseg export`` writes, at the end of ``fit``, on rank zero.

    Args:
        folder: within the run folder, or absolute; an earlier model in it is replaced.
        best: export the weights of the best checkpoint, if a ``ModelCheckpoint`` with a monitor has kept one; the
            module gets its last weights back afterwards. Otherwise, and if there is none, the last weights. Where
            weights are in shards, the newest checkpoint stands for the last.
        dtype: of the exported weights; as they are trained if None.

    Raises:
        FileExistsError: before training, if there is anything but a model in ``folder``.
    """

    def __init__(
        self, folder: str = "hf", best: bool = True, dtype: Literal["float32", "bfloat16"] | None = None
    ) -> None:
        self.folder = folder
        self.best = best
        self.dtype: Literal["float32", "bfloat16"] | None = dtype

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out now whether the folder can be written in the end."""
        expect_room(self.run / self.folder, MODEL_FILES)

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Export, after the last checkpoint has been written."""
        if not trainer.is_global_zero:
            return
        checkpoint = best_checkpoint(trainer) if self.best else None
        if Parallelism.of(trainer.strategy).shards_weights or (checkpoint is not None and checkpoint.is_dir()):
            self._put_together(checkpoint or newest_whole(self.run / "checkpoints"))
        elif checkpoint is None:
            self._write(pl_module, "the last weights", trainer.global_step)
        else:
            with _weights_of(checkpoint, pl_module) as step:
                self._write(pl_module, str(checkpoint), step)

    def _put_together(self, checkpoint: Path | None) -> None:
        """Export a checkpoint of this run, whose shards can be trusted."""
        configuration = self.run / "fit.yaml"
        if checkpoint is None or not configuration.is_file():
            logger.error(
                "Expected a checkpoint in '%s/checkpoints' and the configuration '%s' to export from, because the "
                "weights are in shards; `thinkseg export` takes others", self.run, configuration,
            )  # fmt: skip
            return
        folder = self.run / self.folder
        export(checkpoint, folder, configuration, self.dtype, trust_shards=True, replaceable=MODEL_FILES)
        logger.info("Exported '%s' to '%s'", checkpoint, folder)

    def _write(self, module: Any, checkpoint: str, step: int | None) -> None:
        folder, configuration = self.run / self.folder, self.run / "fit.yaml"
        expect_room(folder, MODEL_FILES)
        known = configuration if configuration.is_file() else None
        source = Source(type(module).__name__, module.dialogue, checkpoint, step, known)
        write_model(module.reasoner, folder, source, self.dtype)
        logger.info("Exported '%s' to '%s'", checkpoint, folder)


def best_checkpoint(trainer: Trainer) -> Path | None:
    """Return the best checkpoint by the first ``ModelCheckpoint`` that monitors something and has kept one."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None and callback.best_model_path:
            path = Path(callback.best_model_path)
            if is_whole(path):
                return path
            logger.error("The best checkpoint '%s' is missing or cut short: was the disk full?", path)
    return None


@contextmanager
def _weights_of(checkpoint: Path, module: LightningModule) -> Iterator[int | None]:
    """Inside this context a module has the weights of a checkpoint, which are those of the step that it gives."""
    last = {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}
    saved = read_weights(checkpoint)
    module.load_state_dict(saved.state, strict=module.strict_loading)
    try:
        yield saved.step
    finally:
        module.load_state_dict(last, strict=module.strict_loading)
