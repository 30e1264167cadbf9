"""The table of an evaluation as a file."""

from typing import Any

from lightning.pytorch import Trainer

from datamodules.files import to_json, write_atomically
from lightning_modules.callbacks.base import RunCallback


class ResultsWriter(RunCallback):
    """Writes ``module.results`` to ``<run folder>/test.json`` or ``validation.json`` when an evaluation ends.

    The file holds ``{group: {column: number}}``, the columns of the protocol and "reward", in fractions; what has no
    value is null.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write ``validation.json``; the last validation of a run stays."""
        if not trainer.sanity_checking:
            self._write(trainer, pl_module, "validation")

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write ``test.json``."""
        self._write(trainer, pl_module, "test")

    def _write(self, trainer: Trainer, pl_module: Any, name: str) -> None:
        if trainer.is_global_zero:
            table = to_json(pl_module.results, indent=2)
            write_atomically(self.run / f"{name}.json", f"{table}\n".encode())
