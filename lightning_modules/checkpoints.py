"""Checkpoints that are whole or not there: how they are written, told from broken ones, and found again."""

import json
import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from lightning_modules.files import atomic_file, write_atomically

logger = logging.getLogger(__name__)

#: What `seal` writes into a folder when everything else is in it.
MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d+)\.ckpt")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, forces it to the disk and moves it there.

    Lightning's own first builds the whole file in memory, and moves it from the system's temporary folder, which on
    another file system is a copy that can be cut short. A checkpoint that cannot be written is an error in the log and
    not the end of the run: the earlier ones are as they were.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; what stood at ``path`` stays until it is complete."""
        try:
            write_checkpoint(checkpoint, Path(path))
        except OSError as error:
            logger.error("Checkpoint '%s' was not written: %s. Earlier ones are as they were; make room", path, error)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ValueError: if it is cut short.
        """
        if Path(path).exists() and not is_whole(Path(path)):
            raise ValueError(
                f"Expected a whole checkpoint at '{path}', but it is cut short; `--ckpt_path last` takes the newest "
                "whole one of a run"
            )
        return super().load_checkpoint(path, map_location, weights_only)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint that is there as a whole or not at all.

    Raises:
        OSError: if the disk refuses.
    """
    try:
        with atomic_file(path) as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:  # torch's writer hides what the file said behind its own complaint
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def is_whole(path: Path) -> bool:
    """Say whether a checkpoint was written to its end.

    Args:
        path: a file of ``torch.save``, whose table of contents comes last, or a folder of shards, whose manifest does.
    """
    if path.is_dir():
        return _is_sealed(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return False


def seal(folder: Path) -> None:
    """Write the manifest of a folder of shards: every file and its size in bytes. Call it when all are written."""
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in _files(folder)}
    write_atomically(folder / MANIFEST, json.dumps(sizes, indent=1).encode())


def recent_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints ``step-<n>.ckpt`` of a folder, whole or not, the newest first."""
    found = [path for path in folder.glob("step-*.ckpt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """Return the optimiser step after which ``step-<n>.ckpt`` was written.

    >>> step_of(Path("step-00000120.ckpt"))
    120
    """
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def newest_whole(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a run; one that is passed over for it is named in a warning.

    Args:
        folder: of checkpoints ``step-<n>.ckpt``.

    Returns:
        The checkpoint, or None if there are none.

    Raises:
        ValueError: if there are some, and none is whole.
    """
    broken: list[Path] = []
    for path in recent_checkpoints(folder):
        if is_whole(path):
            for other in broken:
                logger.warning("Checkpoint '%s' is cut short; the one before it is used: '%s'", other, path)
            return path
        broken.append(path)
    if broken:
        raise ValueError(
            f"Expected a whole checkpoint in '{folder}', but all {len(broken)} are cut short, from '{broken[0].name}' "
            "on; name another with `--ckpt_path`, or start afresh in another `trainer.default_root_dir`"
        )
    return None


def _is_sealed(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != MANIFEST]
