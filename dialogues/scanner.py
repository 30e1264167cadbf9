"""Find tags and JSON in what a model wrote, in linear time and without exceptions.

Model output is data from an adversary that is trained to find our weak spots: no pattern that can backtrack touches it.
The published reward's regular expression takes 74 s on an ``<answer>`` tag followed by 4,000 spaces; these functions
look at every character a bounded number of times.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

# One character class without a quantifier: `search` is a scan and cannot backtrack.
_NOT_SPACE = re.compile(r"\S")


class Span(NamedTuple):
    """A piece of a text: ``text[start:end]``."""

    start: int
    end: int


def occurrences(text: str, token: str, start: int = 0) -> Iterator[int]:
    """Yield where ``token`` occurs, without overlap, from ``start`` on."""
    found = text.find(token, start)
    while found >= 0:
        yield found
        found = text.find(token, found + len(token))


def block(text: str, tag: str, start: int = 0) -> Span | None:
    """Find what stands between the first ``<tag>`` from ``start`` on and the first ``</tag>`` after it.

    Returns:
        The content without its tags, or None if there is no opening or no closing tag.
    """
    opening = text.find(f"<{tag}>", start)
    if opening < 0:
        return None
    begin = opening + len(tag) + 2
    end = text.find(f"</{tag}>", begin)
    return None if end < 0 else Span(begin, end)


def object_block(text: str, tag: str) -> Span | None:
    """Find the JSON object that follows an opening tag, up to the first ``}`` that stands before a closing tag.

    White space may stand between the tags and the braces. An opening tag that no brace follows is passed over; closing
    tags that no brace precedes are passed over too, so the content may hold some.

    Returns:
        The content from brace to brace, or None if there is none.
    """
    for opening in occurrences(text, f"<{tag}>"):
        first = _NOT_SPACE.search(text, opening + len(tag) + 2)
        if first is not None and first.group() == "{":
            return _closed_object(text, tag, first.start())
    return None


def _closed_object(text: str, tag: str, brace: int) -> Span | None:
    begin = brace + 1
    for closing in occurrences(text, f"</{tag}>", begin):
        # The windows between closing tags do not overlap: each character is stripped once.
        window = text[begin:closing].rstrip()
        if window.endswith("}"):
            return Span(brace, begin + len(window))
        begin = closing
    return None


def adjoins(text: str, closing: str, opening: str, start: int, end: int) -> bool:
    """Tell whether ``closing`` is followed by ``opening`` with nothing but white space between them.

    Args:
        text: the text.
        closing: first token, looked for from ``start`` on.
        opening: second token, which ends at ``end`` or before.
        start: see ``closing``.
        end: see ``opening``.
    """
    begin = start
    for found in occurrences(text, opening, start):
        if found + len(opening) > end:
            break
        # Only the nearest `closing` can adjoin, and the windows between openings do not overlap.
        last = text.rfind(closing, begin, found)
        if last >= 0 and not text[last + len(closing) : found].strip():
            return True
        begin = found
    return False


def parse_json(text: str) -> Any:
    """Parse JSON as Python does (``NaN`` and ``Infinity`` are numbers, the last of equal keys counts).

    Returns:
        The value; None, like ``null``, for a text that is no JSON, is nested too deeply, or holds an integer of more
        digits than Python converts in linear time.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # JSONDecodeError and the limit on digits are ValueErrors
        return None
