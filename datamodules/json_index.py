"""A JSON object of any size as a mapping that reads what is asked for, by an index of where each entry lies."""

import hashlib
import json
import logging
import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.files import write_atomically
from datamodules.json_scan import Entry, scan

_LOGGER = logging.getLogger(__name__)

_DECODER = json.JSONDecoder()
_VERSION = 1
#: hash of the name, and where the entry is in the file, in bytes; sorted by hash
_RECORD = np.dtype([("hash", "<i8"), ("begin", "<i8"), ("end", "<i8")])


def open_index(path: Path) -> "JSONIndex":
    """Return the object that a JSON file holds; it is opened once in a process, and again when the file has changed.

    Raises:
        ValueError: if the file does not hold a JSON object, or one with a name twice.
        OSError: if the file cannot be read, or its index be written anywhere.
    """
    status = path.stat()
    return _opened(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _opened(path: Path, changed: int, size: int) -> "JSONIndex":
    return JSONIndex(path)


class JSONIndex(Mapping[str, Any]):
    r"""The object in a JSON file, decoded entry by entry.

    The file is parsed when it is opened for the first time. What remains is a small index, 24 bytes an entry, which is
    mapped into memory: ``<file>.index`` beside it, or in a cache folder where that cannot be written. It holds for a
    file of its size and time of change, or else of its content; for any other it is built anew. Processes that build it
    at once each publish a whole one. A worker that gets this as a pickle opens it anew.

    Index format::

        {"version": 1, "size": bytes, "mtime_ns": ..., "sha256": of the file, "records": sha256 of what follows}\n
        (hash, begin, end) as int64, one of each entry, sorted

    Args:
        path: the file.

    Raises:
        ValueError: if the file does not hold a JSON object, or one with a name twice.
        OSError: if the file cannot be read, or its index be written anywhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header, self._records = _open(path)
        self._hashes = self._records["hash"]

    def __reduce__(self) -> tuple[Any, ...]:
        return open_index, (self.path,)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        for number in np.argsort(self._records["begin"]):
            # only the name is decoded
            name, _ = _DECODER.raw_decode(self._entry(number).decode("utf-8", "surrogatepass"))
            yield name

    def __getitem__(self, name: str) -> Any:
        return self.entry(name)

    def entry(self, name: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
        """Return an entry.

        Args:
            name: its name.
            pairs: makes what stands for an object in it, of names and values, some of which may be there twice; None
                makes a dict.

        Raises:
            KeyError: if there is none.
        """
        wanted = _hash(name)
        number = bisect_left(self._hashes, wanted)
        while number < len(self) and self._hashes[number] == wanted:
            entry = json.loads(b"{%b}" % self._entry(number), object_pairs_hook=pairs)
            if name in entry:
                return entry[name]
            number += 1
        raise KeyError(name)

    def _entry(self, number: int) -> bytes:
        _, begin, end = self._records[number].item()
        # Opened for each entry: a file that forked workers share would also share its position.
        with self.path.open("rb") as file:
            if _stamp(file) != self._header.stamp:
                raise ValueError(f"Expected `{self.path}` to stay as it was opened, but it has changed; open it again")
            file.seek(begin)
            return file.read(end - begin)


@dataclass(frozen=True)
class _Header:
    """The first line of an index: which file it is of, and how to know that it is whole."""

    version: int
    size: int
    mtime_ns: int
    sha256: str
    records: str

    @property
    def stamp(self) -> tuple[int, int]:
        """What tells quickly that the file is the same."""
        return self.size, self.mtime_ns


class _Index(NamedTuple):
    header: _Header
    records: NDArray[np.void]


def _open(path: Path) -> _Index:
    """Return the index of a file: one that is there, one that is there for the same content, or a new one."""
    with path.open("rb") as file:
        stamp = _stamp(file)
        found = [index for place in _places(path) if (index := _find(place)) is not None]
        for index in found:
            if index.header.stamp == stamp:
                return index
        content = hashlib.file_digest(file, "sha256").hexdigest()
        same = [index.records for index in found if index.header.sha256 == content]
        file.seek(0)
        records = same[0] if same else _build(path, file)
    checksum = hashlib.sha256(records.tobytes()).hexdigest()
    return _publish(path, _Index(_Header(_VERSION, *stamp, content, checksum), records))


def _build(path: Path, file: BinaryIO) -> NDArray[np.void]:
    started = time.perf_counter()
    try:
        records = _records(scan(file))
    except (ValueError, RecursionError) as error:
        why = "values that are nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"Expected JSON in `{path}`, one object, but got: {why}") from error
    _LOGGER.info("indexed %d entries of `%s` in %.1f s", len(records), path, time.perf_counter() - started)
    return records


def _records(entries: Iterable[Entry]) -> NDArray[np.void]:
    names = set()
    rows = []
    for entry in entries:
        if entry.name in names:
            raise ValueError(f"the name {entry.name!r} a second time: byte {entry.begin}")
        names.add(entry.name)
        rows.append((_hash(entry.name), entry.begin, entry.end))
    return np.array(sorted(rows), dtype=_RECORD)


def _publish(path: Path, index: _Index) -> _Index:
    """Write an index where it can be written, and return it as it is there."""
    refused = []
    for place in _places(path):
        # Another process may have been quicker; what others have mapped stays where it is.
        there = _find(place)
        if there is not None and there.header == index.header:
            return there
        try:
            write_atomically(place, json.dumps(asdict(index.header)).encode() + b"\n" + index.records.tobytes())
        except OSError as error:
            refused.append(str(error))
            continue
        return _load(place)
    raise OSError(
        f"Expected a folder that can be written for the index of `{path}`, but got: {'; '.join(refused)}; "
        "set THINKSEG_CACHE to one"
    )


def _places(path: Path) -> list[Path]:
    """Return where the index of a file may lie, in the order of preference."""
    named = f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]}-{path.name}.index"
    if chosen := os.environ.get("THINKSEG_CACHE"):
        return [Path(chosen).expanduser() / named]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [path.with_name(f"{path.name}.index"), cache / "thinkseg" / named]


def _find(place: Path) -> _Index | None:
    """Return the index at a place, or None if there is none, or a broken one."""
    try:
        return _load(place) if place.exists() else None
    except (OSError, RecursionError, TypeError, ValueError) as error:
        _LOGGER.warning("`%s` is no index of version %d and is built anew: %s", place, _VERSION, error)
        return None


def _load(place: Path) -> _Index:
    """Map an index into memory.

    Raises:
        OSError: if it cannot be read.
        RecursionError, TypeError: if its header is not ours.
        ValueError: if it is not whole, or of another version.
    """
    with place.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header = _Header(**json.loads(content.readline()))
    records = memoryview(content)[content.tell() :]
    if header.version != _VERSION or hashlib.sha256(records).hexdigest() != header.records:
        raise ValueError("its version or its checksum differs")
    return _Index(header, np.frombuffer(records, _RECORD))


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
