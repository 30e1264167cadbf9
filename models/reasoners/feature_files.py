"""Features of frames from a frozen vision tower, on disk: a second epoch, or another run, need not encode again."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from datamodules.files import write_atomically
from models.reasoners.prompts import EncodedImages

logger = logging.getLogger(__name__)

_VERSION = 1
_CHUNK = 2**22  # elements
_HEADER_SIZE = 8  # bytes in which a safetensors file says how long its header is


class FeatureFiles:
    """Features of frames by what the tower reads, a file for each: ``<folder>/<fingerprint>/<ab>/<abcd…>.safetensors``.

    Ranks, workers and runs may share a folder: a file is there as a whole or not at all, and whoever writes it writes
    the same. A file that is damaged counts as absent, so it is written again. Where nothing can be written a run goes
    on without: one warning says so.

    Args:
        folder: of features of any towers; it may be deleted.
        fingerprint: of the tower.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = Path(folder) / fingerprint
        self._writable = True

    @staticmethod
    def key(image: EncodedImages) -> str:
        """Return the name of what a tower reads: the patches of one image and their grid."""
        return _digest(image.pixel_values, image.grid)

    def read(self, key: str) -> tuple[Tensor, ...] | None:
        """Return what was written, on the CPU, or None if there is none or it is damaged."""
        path = self._path(key)
        try:
            return _unpack(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._stop_writing(error)
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.info("Features in '%s' are damaged, and computed again: %s", path, error)
        return None

    def write(self, key: str, tensors: tuple[Tensor, ...]) -> None:
        """Keep features, of any dtypes and shapes."""
        if not self._writable:
            return
        try:
            write_atomically(self._path(key), _pack(tensors))
        except OSError as error:
            self._stop_writing(error)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _stop_writing(self, error: OSError) -> None:
        if self._writable:
            logger.warning("Features of frames are no longer kept in '%s': %s", self.folder, error)
        self._writable = False


def fingerprint(tower: nn.Module) -> str:
    """Return the name of a vision tower's features.

    It is of the tower's configuration with transformers' version, of its weights and their dtype, and of the dtype that
    autocast computes in where it is called.

    Args:
        tower: of transformers, with whole weights, on any device; they are read in chunks. Adapters count as weights,
            but not whether they are switched off. Buffers follow from the configuration.

    Raises:
        ValueError: if a weight is elsewhere: on another rank, or nowhere yet.
    """
    network: Any = tower
    config = {name: value for name, value in network.config.to_dict().items() if name != "_name_or_path"}
    state = dict(tower.named_parameters())  # `state_dict` would put gathered weights back into FSDP's shards
    for name, weight in state.items():
        if weight.is_meta or not weight.numel() or isinstance(weight, DTensor):
            raise ValueError(
                f"Expected whole weights in the vision tower, but `{name}` has shape {tuple(weight.shape)} on "
                f"{weight.device}; take the fingerprint after weights are loaded, and where they are gathered"
            )
    device = next(tower.parameters()).device.type
    computed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    described = json.dumps([_VERSION, type(tower).__name__, config, str(computed)], sort_keys=True, default=str)
    weights = [f"{name} {_digest(state[name])}" for name in sorted(state)]
    return hashlib.blake2b("\n".join([described, *weights]).encode(), digest_size=16).hexdigest()


def _pack(tensors: tuple[Tensor, ...]) -> bytes:
    # Clones, because safetensors refuses tensors that share memory.
    named = {str(number): tensor.detach().cpu().contiguous().clone() for number, tensor in enumerate(tensors)}
    content: bytes = save(named, {"digest": _digest(*named.values())})
    return content


def _unpack(content: bytes) -> tuple[Tensor, ...]:
    named = load(content)
    tensors = tuple(named[str(number)] for number in range(len(named)))
    start = _HEADER_SIZE + int.from_bytes(content[:_HEADER_SIZE], "little")
    # safetensors checks sizes only.
    if json.loads(content[_HEADER_SIZE:start])["__metadata__"]["digest"] != _digest(*tensors):
        raise ValueError("the content differs from its digest")
    return tensors


def _digest(*tensors: Tensor) -> str:
    """Return a digest of tensors: dtypes, shapes and bytes."""
    digest = hashlib.blake2b(digest_size=20)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        for chunk in tensor.detach().flatten().split(_CHUNK):
            # A copy, because FSDP could not free what an array of numpy has shared.
            digest.update(chunk.to("cpu", copy=True).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
