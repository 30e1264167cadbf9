"""What a run writes: where to, and how it stays whole."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from lightning.pytorch import Trainer

#: How the name of a file ends that is being written.
UNFINISHED = ".tmp"


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of a run: that of its first logger, or the trainer's root. Call it on every rank."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def inside(root: Path, *names: str) -> Path:
    """Join names that come from data to a folder.

    Args:
        root: the folder.
        *names: relative paths; ``/`` is allowed in each.

    Returns:
        A path below ``root``.

    Raises:
        ValueError: if a name is empty or absolute, holds ``..``, a backslash or a null byte: it could leave the folder.
    """
    for name in names:
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise ValueError(f"Expected a name that stays inside '{root}', but got {name!r}; rename it in the dataset")
    return root.joinpath(*names)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write that is there as a whole or not at all, even if the machine stops; its folders are made.

    Args:
        path: the file; it is replaced when the context ends, and only if it ends without an exception.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all; its folders are made.

    Args:
        path: the file; it is replaced if it exists.
        data: its content.
    """
    with atomic_file(path) as file:
        file.write(data)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return strict JSON: numbers that are not finite become null, which JSON has and NaN is not."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
