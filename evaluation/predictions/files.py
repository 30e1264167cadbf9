"""A folder and an archive as the same thing: files below a root that are read one at a time."""

import hashlib
import lzma
import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

#: most bytes of one file; a mask of 8K with no compression at all has half as many
LARGEST = 1 << 26
#: an archive's entry above this size may not shrink to less than a hundredth: masks are compressed already
_SUSPICIOUS, _RATIO = 1 << 22, 100
#: what reading a damaged entry of an archive raises, besides OSError and ValueError
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, KeyError)
#: most parts of an entry's name, whose folders are all kept; and most characters of it in a sentence
_DEEPEST, _SHOWN = 32, 200


class Files(ABC):
    """Files below a root, for any number of threads; names are relative, with ``/``, and the root is the empty name.

    Args:
        path: the root.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def problems(self) -> list[str]:
        """What is never read, a sentence each."""
        return []

    @abstractmethod
    def files(self, folder: str) -> Collection[str]:
        """Return the names of the files directly in a folder; none if there is no such folder."""

    @abstractmethod
    def folders(self, folder: str) -> Collection[str]:
        """Return the names of the folders directly in a folder; none if there is no such folder."""

    @abstractmethod
    def has_folder(self, folder: str) -> bool:
        """Return whether there is such a folder."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it is broken, larger than `LARGEST`, or must not be read.
        """

    @abstractmethod
    def stamp(self) -> str:
        """Return what changes when a file does: a digest of names, sizes and times of change."""

    def walk(self, folder: str = "") -> Iterator[tuple[str, Collection[str]]]:
        """Yield each folder below one, itself included, and the names of the files directly in it."""
        left = [folder]
        while left:
            here = left.pop()
            yield here, self.files(here)
            left += [join(here, name) for name in sorted(self.folders(here), reverse=True)]


class Folder(Files):
    """A folder on disk.

    Links are followed, but not to a folder above them, which would never end: such a link is a file that refuses to be
    read, as are links to nothing, pipes and devices.
    """

    def files(self, folder: str) -> Collection[str]:
        """Return the names of the files directly in a folder."""
        return {entry.name for entry in self._entries(folder) if not _leads_down(entry)}

    def folders(self, folder: str) -> Collection[str]:
        """Return the names of the folders directly in a folder."""
        return {entry.name for entry in self._entries(folder) if _leads_down(entry)}

    def has_folder(self, folder: str) -> bool:
        """Return whether there is such a folder."""
        return (self.path / folder).is_dir()

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        path = self.path / name
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for somebody to write
            raise ValueError("expected a regular file, but got a folder, a pipe or a device")
        with path.open("rb") as file:
            return _whole(file.read(LARGEST + 1))

    def stamp(self) -> str:
        """Return a digest of names, sizes and times of change; no file is opened."""
        digest = hashlib.sha256()
        for folder, names in self.walk():
            for name in sorted(names):
                status = _status(self.path / folder / name)
                named = f"{folder}/{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
                digest.update(os.fsencode(named))
        return digest.hexdigest()

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        if not self.has_folder(folder):
            return []
        with os.scandir(self.path / folder) as entries:
            return list(entries)


class Archive(Files):
    """A ZIP file, read without extracting it.

    Entries whose names could leave a folder, or name too many, are passed over; links, encrypted entries and those that
    claim to be huge are there but refuse to be read. All of them are named in ``problems``.

    Raises:
        ValueError: if it is no ZIP file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"Expected a ZIP file in `{path}`, but got: {error}") from error
        self._files: dict[str, set[str]] = defaultdict(set)
        self._folders: dict[str, set[str]] = defaultdict(set)
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._refused: dict[str, str] = {}
        self._unnamed: list[str] = []
        for entry in self._archive.infolist():
            self._place(entry)

    @property
    def problems(self) -> list[str]:
        """What is never read, a sentence each."""
        return [*self._unnamed, *(f"`{name}` in the archive is not read: {why}" for name, why in self._refused.items())]

    def files(self, folder: str) -> Collection[str]:
        """Return the names of the files directly in a folder."""
        return self._files.get(folder, frozenset())

    def folders(self, folder: str) -> Collection[str]:
        """Return the names of the folders directly in a folder."""
        return self._folders.get(folder, frozenset())

    def has_folder(self, folder: str) -> bool:
        """Return whether there is such a folder."""
        return folder in self._files or folder in self._folders

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        if name in self._refused:
            raise ValueError(self._refused[name])
        try:
            with self._archive.open(self._entries[name]) as file:
                return _whole(file.read(LARGEST + 1))
        except _BROKEN as error:
            raise ValueError(f"its entry in the archive is broken: {error}") from error

    def stamp(self) -> str:
        """Return size and time of change of the archive."""
        return file_stamp(self.path)

    def _place(self, entry: zipfile.ZipInfo) -> None:
        name = entry.filename
        if name == "./":
            return
        parts = PurePosixPath(name).parts
        if why := _unusable(name, parts):
            shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
            self._unnamed.append(f"{shown!r} in the archive is not read: {why}")
            return
        folders = parts if entry.is_dir() else parts[:-1]
        for depth, folder in enumerate(folders):
            self._folders["/".join(folders[:depth])].add(folder)
        here = "/".join(folders)
        self._folders[here]  # an empty folder is there too
        if entry.is_dir():
            return
        plain = "/".join(parts)  # without `.` and `//`
        if plain in self._entries:
            self._refused[plain] = "there are several of that name"
        self._entries[plain] = entry
        self._files[here].add(parts[-1])
        if why := _refusal(entry):
            self._refused[plain] = why


def _leads_down(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder that is not above itself."""
    try:
        if not entry.is_dir():
            return False
    except OSError:  # a link to itself
        return False
    if not entry.is_symlink():
        return True
    target = Path(entry.path).resolve()
    return not any(above.resolve().is_relative_to(target) for above in Path(entry.path).parents)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError:  # a link to nothing
        return path.lstat()


def _unusable(name: str, parts: tuple[str, ...]) -> str | None:
    """Return why a name cannot be placed among the others, or None."""
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
        return "its name could leave a folder"
    return f"it has more than {_DEEPEST} parts" if len(parts) > _DEEPEST else None


def _refusal(entry: zipfile.ZipInfo) -> str | None:
    """Return why an entry must not be read, or None."""
    if entry.flag_bits & 1:
        return "it is encrypted"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "it is a link"
    if entry.file_size > LARGEST:
        return f"expected at most {LARGEST:,} bytes, but it claims {entry.file_size:,}"
    if entry.file_size > _SUSPICIOUS and entry.file_size > _RATIO * max(entry.compress_size, 1):
        return f"expected at most {_RATIO} times its {entry.compress_size:,} bytes, but it claims {entry.file_size:,}"
    return None


def _whole(content: bytes) -> bytes:
    if len(content) > LARGEST:
        raise ValueError(f"expected at most {LARGEST:,} bytes, but got more")
    return content


def join(*names: str) -> str:
    """Return a name below a folder; empty ones are the root."""
    return "/".join(name for name in names if name)


def file_stamp(path: Path) -> str:
    """Return size and time of change of a file."""
    status = path.stat()
    return f"{status.st_size} bytes, changed at {status.st_mtime_ns}"
