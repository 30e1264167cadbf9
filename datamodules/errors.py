"""What can be wrong with data on disk."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from PIL import Image

#: what Pillow raises about a malformed picture, as it happens
UNREADABLE = (
    OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, EOFError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


class DatasetNotFoundError(FileNotFoundError):
    """A dataset, or a file without which it cannot be read, is not where it was looked for."""

    @classmethod
    def of(cls, dataset: str, root: Path, missing: Iterable[Path]) -> Self:
        """Return the error that names the dataset, its root and what is missing below it."""
        names = ", ".join(f"`{path.relative_to(root) if path.is_relative_to(root) else path}`" for path in missing)
        return cls(f"{dataset} not found in `root={str(root)!r}`: expected {names}; README 'Data' says where to get it")


class BadSampleError(ValueError):
    """One sample cannot be used.

    Args:
        message: the record, the file, what was expected and what was got.
        reason: kind of the defect, by which it is counted: ``unreadable frame``, ``mask size``, ...
    """

    def __init__(self, message: str, reason: str = "bad sample") -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])
