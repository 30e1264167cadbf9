"""How a file is written so that it stays whole."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

#: How the name ends of what is still being written; it begins with a dot.
UNFINISHED = ".tmp"


@contextmanager
def atomic_file(path: Path, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a file to write that is there as a whole or not at all; its folders are made.

    Args:
        path: the file; it is replaced when the context ends, and only if it ends without an exception.
        durable: have it on the disk before it takes its name, so that it is whole even if the machine stops.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # not named by the process: on a shared folder two machines may have the same
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            if durable:
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
