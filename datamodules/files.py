"""How a file is written so that it stays whole."""

import os
from pathlib import Path
from uuid import uuid4


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all; its folders are made.

    Args:
        path: the file; it is replaced if it exists.
        data: its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # not named by the process: on a shared folder two machines may have the same
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
