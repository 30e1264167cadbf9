"""The trained reasoner as a folder that opens in plain transformers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.callbacks.base import RunCallback
from lightning_modules.checkpoints import is_whole

logger = logging.getLogger(__name__)


class HFExport(RunCallback):
    """Calls ``module.reasoner.save_pretrained`` at the end of ``fit``, on rank zero.

    Args:
        folder: within the run folder, or absolute.
        best: export the weights of the best checkpoint, if a ``ModelCheckpoint`` with a monitor has kept one; the
            module gets its last weights back afterwards. Otherwise, and if there is none, the last weights.
        dtype: of the exported weights; as they are trained if None.
    """

    def __init__(
        self, folder: str = "hf", best: bool = True, dtype: Literal["float32", "bfloat16"] | None = None
    ) -> None:
        self.folder = folder
        self.best = best
        self.dtype = dtype

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Export, after the last checkpoint has been written."""
        if not trainer.is_global_zero:
            return
        path = self.run / self.folder
        checkpoint = best_checkpoint(trainer) if self.best else None
        if checkpoint is None:
            pl_module.reasoner.save_pretrained(path, self.dtype)
        else:
            with _weights_of(checkpoint, pl_module):
                pl_module.reasoner.save_pretrained(path, self.dtype)
        logger.info("Exported %s to '%s'", "the last weights" if checkpoint is None else f"'{checkpoint}'", path)


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
def _weights_of(checkpoint: Path, module: LightningModule) -> Iterator[None]:
    """Inside this context a module has the weights of a checkpoint."""
    last = {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    module.load_state_dict(saved["state_dict"], strict=module.strict_loading)
    try:
        yield
    finally:
        module.load_state_dict(last, strict=module.strict_loading)
