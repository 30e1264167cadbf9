"""What a run kept, as one state: a file, or a folder of shards that several ranks wrote."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from lightning_modules.checkpoints import expect_trust
from lightning_modules.zero_shards import read_zero_shards

#: What Lightning's strategies call the module's state among the shards of torch.distributed.checkpoint.
STATE_NAMES = ("state_dict", "model")


class Weights(NamedTuple):
    """The state of a module at a step; None if the checkpoint does not say which."""

    state: dict[str, Tensor]
    step: int | None


def read_weights(checkpoint: Path, trust_shards: bool = False) -> Weights:
    """Read a checkpoint onto the CPU.

    Args:
        checkpoint: a file of Lightning, or a folder of shards: DeepSpeed's ZeRO, or torch.distributed.checkpoint's.
        trust_shards: open folders, whose parts are pickles.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is a folder and not trusted, or neither kind of folder, or a file without a module's state.
    """
    if checkpoint.is_file():
        saved = _open(checkpoint)
        if "state_dict" not in saved:
            raise ValueError(f"Expected a checkpoint of a run in '{checkpoint}', but it holds {sorted(saved)[:5]}")
        return Weights(saved["state_dict"], saved.get("global_step"))
    if not checkpoint.is_dir():
        raise FileNotFoundError(f"Expected a checkpoint at '{checkpoint}', but there is none")
    expect_trust(checkpoint, trust_shards, "--trust_shards")
    if (checkpoint / "latest").is_file():
        state = read_zero_shards(checkpoint)
        return Weights(state, _open(min(checkpoint.glob("*/*_model_states.pt"))).get("global_step"))
    if (checkpoint / ".metadata").is_file():
        return Weights(read_distributed_shards(checkpoint), _open(checkpoint / "meta.pt").get("global_step"))
    raise ValueError(
        f"Expected a file `latest` (ZeRO) or `.metadata` (torch.distributed.checkpoint) in '{checkpoint}', but got "
        f" {sorted(path.name for path in checkpoint.iterdir())[:5]}"
    )


def read_distributed_shards(folder: Path) -> dict[str, Tensor]:
    """Put the shards of torch.distributed.checkpoint together, those of the module and not those of the optimiser.

    Args:
        folder: what ``ModelParallelStrategy`` or ``FSDPStrategy`` wrote, of any number of ranks.
    """
    kept = FileSystemReader(folder).read_metadata().state_dict_metadata
    for prefix in STATE_NAMES:
        tensors = {
            name.removeprefix(f"{prefix}."): torch.empty(value.size, dtype=value.properties.dtype)
            for name, value in kept.items()
            if name.startswith(f"{prefix}.") and isinstance(value, TensorStorageMetadata)
        }
        if tensors:
            load({prefix: tensors}, checkpoint_id=folder, no_dist=True)
            return tensors
    raise ValueError(f"Expected the shards in '{folder}' to hold {STATE_NAMES}, but got {sorted(kept)[:5]}")


def _open(file: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    return saved
