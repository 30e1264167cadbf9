"""PyTorch's fully sharded data parallelism, second edition (``fully_shard``), without further packages."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from lightning_modules.checkpoints import expect_trust, sealed_folder
from lightning_modules.parallelism import Parallelism
from models.reasoners.base import Reasoner


class FSDP2Strategy(Parallelism, ModelParallelStrategy):
    """Weights, gradients and optimiser states in shards over all ranks; each layer is gathered when it computes.

    Args:
        process_group_backend: ``nccl`` or ``gloo``; by default what fits the device.
        save_distributed_checkpoint: write a folder with a file per rank, instead of one file.
        trust_shards: open such folders, which hold pickles and can run code: for those of your own runs.
        timeout: of a collective, in seconds.
    """

    def __init__(
        self,
        process_group_backend: str | None = None,
        save_distributed_checkpoint: bool = False,
        trust_shards: bool = False,
        timeout: float = 1800.0,
    ) -> None:
        super().__init__(
            data_parallel_size=1,
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout),
        )
        self.trust_shards = trust_shards

    def setup_environment(self) -> None:
        """Start the processes, all of which share one copy of the model."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def configure(self, reasoner: Reasoner) -> None:
        """Load the networks of a reasoner, and shard them layer by layer."""
        reasoner.configure()
        mesh = self.device_mesh["data_parallel"]
        for layer in reasoner.layers():
            fully_shard(layer, mesh=mesh)
        fully_shard(reasoner, mesh=mesh)

    @property
    def shards_weights(self) -> bool:
        """It does."""
        return True

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write one file, or a folder with the shards of all ranks; either is there as a whole or not at all."""
        if self._save_distributed_checkpoint:
            with sealed_folder(self, filepath) as unfinished:
                super().save_checkpoint(checkpoint, unfinished, storage_options)
        else:
            super().save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a file, or the shards of a folder.

        Raises:
            ValueError: if it is a folder, unless ``trust_shards`` is set.
        """
        if Path(checkpoint_path).is_dir():
            expect_trust(Path(checkpoint_path), self.trust_shards, "--trainer.strategy.trust_shards true")
        return super().load_checkpoint(checkpoint_path, weights_only)

    @contextmanager
    def whole_weights(self, module: nn.Module) -> Iterator[None]:
        """Gather every layer once, and keep it."""
        root, *layers = [part for part in module.modules() if isinstance(part, FSDPModule)]
        for part in (root, *layers):
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            for part in (root, *layers):
                part.reshard()
                part.set_reshard_after_forward(part is not root, recurse=False)
