"""What a run writes: where to, and as what."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from lightning.pytorch import Trainer


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


def expect_room(folder: Path, replaceable: Sequence[str] = ()) -> None:
    """Refuse to write a folder over anything that is there.

    Args:
        folder: what will be written.
        replaceable: a folder that holds one of these files may be replaced.

    Raises:
        FileExistsError: if it is a file, or a folder that holds something else.
    """
    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken and not any((folder / name).is_file() for name in replaceable):
        raise FileExistsError(
            f"Expected '{folder}' to be a new or an empty folder, but there is something in its place; "
            "name another one, or move that away"
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes ``folder`` when everything is in it and vanishes otherwise.

    Args:
        folder: where to; what is there is replaced, so ask ``expect_room`` first.
    """
    folder = folder.resolve()
    unfinished, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            folder.rename(old)
        unfinished.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
