"""What an evaluation has measured so far, as a file from which it goes on."""

import json
import logging
import math
import sys
from array import array
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from datamodules.files import to_json
from evaluation.results import Result
from evaluation.scoring import Outcome

_LOGGER = logging.getLogger(__name__)

_VERSION = 1


class Journal:
    """``rows.jsonl``: what the numbers hang on in the first line, then a line for each unit as it is measured.

    Opened again for the same setting it goes on: a line that was cut short is written anew. For any other setting it
    begins from nothing, and says so. Numbers are read back to the last bit. A unit that was not measurable is not done,
    and of several lines about one the last holds.

    Format::

        {"version": 1, "setting": {...}}
        {"unit": 0, "results": [{"video_id": ..., "row": {...}, ...}], "encodings": ["0/255"]}

    Args:
        path: the file; None keeps nothing.
        setting: names and values that everything measured hangs on.
    """

    def __init__(self, path: Path | None, setting: dict[str, str]) -> None:
        self.path = path
        self.setting = setting
        #: what was measured before
        self.done: dict[int, Outcome] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            kept = self._read() if self.path.exists() else 0
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if kept else "wb")
            self._file.seek(kept)
            self._file.truncate()
            if not kept:
                self._write({"version": _VERSION, "setting": self.setting})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Keep what was measured of one unit."""
        if self._file is not None:
            self._write(asdict(outcome))

    def _write(self, content: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(f"{to_json(content)}\n".encode("utf-8", "surrogatepass"))  # a sentence may hold anything
        self._file.flush()

    def _read(self) -> int:
        """Keep what was measured before; return how many bytes of the file hold, 0 if they are of another setting."""
        assert self.path is not None
        lines = list(_whole_lines(self.path))
        header = lines[0][1] if lines else {}
        if header.get("version") != _VERSION or header.get("setting") != self.setting:
            _LOGGER.warning("`%s` is begun anew: %s", self.path, _difference(header.get("setting"), self.setting))
            return 0
        try:
            read = {outcome.unit: outcome for outcome in (_outcome(content) for _, content in lines[1:])}
        except (KeyError, TypeError) as error:
            _LOGGER.warning("`%s` is begun anew: a line of it is no result (%r)", self.path, error)
            return 0
        # The annotation may have been repaired since.
        self.done = {unit: each for unit, each in read.items() if all(result.measurable for result in each.results)}
        return sum(length for length, _ in lines)


def _whole_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the length of each line and what it holds, up to the first that was cut short."""
    with path.open("rb") as file:
        for line in file:
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not line.endswith(b"\n") or not isinstance(content, dict):
                return
            yield len(line), content


def _outcome(content: dict[str, Any]) -> Outcome:
    results = [
        Result(
            **result
            | {
                "frame_names": [*map(sys.intern, result["frame_names"])],  # which expressions of a video share
                "row": {name: _number(value) for name, value in result["row"].items()},
                "per_frame": {name: array("d", map(_number, values)) for name, values in result["per_frame"].items()},
            }
        )
        for result in content["results"]
    ]
    return Outcome(content["unit"], results, content["encodings"])


def _number(value: float | None) -> float:
    """Return NaN where JSON has null."""
    return math.nan if value is None else value


def _difference(before: Any, now: dict[str, str]) -> str:
    if not isinstance(before, dict):
        return "it is of no evaluation"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in names) or "another version"
