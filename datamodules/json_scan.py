"""Where the entries of a JSON object lie in its file, found with memory for its largest entry."""

import json
import re
from collections.abc import Callable, Iterator
from json import JSONDecodeError
from typing import BinaryIO, NamedTuple, TypeVar

T = TypeVar("T")

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_BYTE_ORDER_MARK = "\xef\xbb\xbf"
_LONGEST_LITERAL = len("-Infinity")


class Entry(NamedTuple):
    """An entry ``"name": value`` of a JSON object.

    Args:
        name: its name.
        begin: where the opening quote of the name is, in bytes.
        end: where the value has ended, in bytes.
    """

    name: str
    begin: int
    end: int


def scan(file: BinaryIO, chunk: int = 1 << 22) -> Iterator[Entry]:
    """Yield the entries of the object that a file holds, in its order.

    Every value is decoded, and so checked, but none is kept.

    Args:
        file: a JSON object in UTF-8, at its begin.
        chunk: bytes to read at a time.

    Raises:
        ValueError: if the file does not hold JSON, or no object.
    """
    window = _Window(file, chunk)
    last = window.take(_opening)
    while not last:
        entry, last = window.take(_entry)
        yield Entry(entry.name, window.offset + entry.begin, window.offset + entry.end)
    window.take(_ending)
    while window.grow():
        window.take(_ending)


class _Window:
    """The part of a file that is parsed: as Latin-1, where a character is a byte and all that JSON marks is ASCII.

    Args:
        file: the file.
        chunk: bytes to read at a time.
    """

    def __init__(self, file: BinaryIO, chunk: int) -> None:
        #: where in the file ``text`` begins
        self.offset = 0
        self._file = file
        self._chunk = chunk
        self._text = ""
        self._position = 0

    def take(self, parse: Callable[[str, int], tuple[T, int]]) -> T:
        """Return what ``parse`` finds at the position, and go behind it; read on while it is cut off.

        Raises:
            ValueError: if it is malformed, or cut off at the end of the file.
        """
        while True:
            try:
                found, self._position = parse(self._text, self._position)
                return found
            except JSONDecodeError as error:
                place = self.offset + error.pos
                near_the_end = error.pos > len(self._text) - _LONGEST_LITERAL
                cut = near_the_end or error.msg.startswith("Unterminated string")
                if not cut or not self.grow():
                    raise ValueError(f"{error.msg}: byte {place}") from None

    def grow(self) -> bool:
        """Read on; return whether there was more."""
        rest = self._text[self._position :]
        # as much again as is still open, so that a long entry is not decoded once per chunk
        read = self._file.read(max(self._chunk, len(rest)))
        self.offset += self._position
        self._text, self._position = rest + read.decode("latin-1"), 0
        return bool(read)


def _skip(text: str, position: int) -> int:
    """Return where the white space at a position ends."""
    space = _SPACE.match(text, position)
    assert space is not None, "nothing is white space too"
    return space.end()


def _expect(mark: str, text: str, position: int, message: str) -> int:
    """Return where one of the characters of ``mark`` is, behind white space."""
    position = _skip(text, position)
    if position == len(text) or text[position] not in mark:
        raise JSONDecodeError(message, text, position)
    return position


def _opening(text: str, position: int) -> tuple[bool, int]:
    """Go into an object; return whether it is empty."""
    mark = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
    brace = _expect("{", text, mark, "Expecting an object")
    first = _expect('"}', text, brace + 1, "Expecting property name enclosed in double quotes")
    return (True, first + 1) if text[first] == "}" else (False, first)


def _entry(text: str, position: int) -> tuple[tuple[Entry, bool], int]:
    """Go behind an entry and its comma or brace; return the entry and whether it is the last."""
    begin = _expect('"', text, position, "Expecting property name enclosed in double quotes")
    _, stop = _DECODER.raw_decode(text, begin)
    colon = _expect(":", text, stop, "Expecting ':' delimiter")
    _, end = _DECODER.raw_decode(text, _skip(text, colon + 1))
    comma = _expect(",}", text, end, "Expecting ',' delimiter")
    _utf8(text[stop:end])  # raises what decoding it will raise
    name = json.loads(_utf8(text[begin:stop]))
    return (Entry(name, begin, end), text[comma] == "}"), comma + 1


def _ending(text: str, position: int) -> tuple[None, int]:
    """Go behind the white space after the object; there is nothing else."""
    end = _skip(text, position)
    if end < len(text):
        raise JSONDecodeError("Extra data", text, end)
    return None, end


def _utf8(text: str) -> str:
    """Return what Latin-1 characters say as bytes of UTF-8; lone surrogates are let pass, as `json.loads` does."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogatepass")
