"""The trained reasoner as a folder that opens in plain transformers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.distributed.tensor import DTensor

from lightning_modules.callbacks.base import RunCallback
from lightning_modules.export import MODEL_FILES, write_model
from lightning_modules.files import expect_room
from lightning_modules.model_card import Source
from lightning_modules.weights import read_weights

logger = logging.getLogger(__name__)


class HFExport(RunCallback):
    """Writes what ``thinkseg export`` writes, at the end of ``fit``, on rank zero.

    Args:
        folder: within the run folder, or absolute; an earlier model in it is replaced.
        best: export the weights of the best checkpoint, if a ``ModelCheckpoint`` with a monitor has kept one; the
            module gets its last weights back afterwards. Otherwise, and if there is none, the last weights. Weights
            in shards are left to ``thinkseg export``.
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
        if _in_shards(pl_module, checkpoint):
            logger.warning(
                "The weights are in shards: `thinkseg export --checkpoint %s --out %s --trust_shards` makes one folder",
                checkpoint or "CHECKPOINT", self.run / self.folder,
            )  # fmt: skip
        elif checkpoint is None:
            self._write(pl_module, "the last weights", trainer.global_step)
        else:
            with _weights_of(checkpoint, pl_module) as step:
                self._write(pl_module, str(checkpoint), step)

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
            return Path(callback.best_model_path)
    return None


def _in_shards(module: LightningModule, checkpoint: Path | None) -> bool:
    """Whether what would be written is in several parts: a checkpoint that is a folder, or the weights themselves."""
    if checkpoint is not None:
        return checkpoint.is_dir()
    # ZeRO-3 leaves empty tensors in a module, and FSDP such that know of their other parts.
    return any(parameter.numel() == 0 or isinstance(parameter, DTensor) for parameter in module.parameters())


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
