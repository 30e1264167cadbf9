"""What callbacks that write share."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.files import run_folder


class RunCallback(Callback):
    """A callback that writes below the run folder, ``self.run``, which is known from ``setup`` on."""

    run = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run folder, together with the other ranks."""
        self.run = run_folder(trainer)
