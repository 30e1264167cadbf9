"""HTML whose text is escaped unless it says that it is HTML."""

from html import escape

from evaluation.tables import printable

_WITHOUT_CONTENT = ("img", "meta")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: of the element.
        *content: what is in it: `Html` as it is, any other text escaped.
        **attributes: ``class_`` is ``class``, ``text_anchor`` is ``text-anchor``.
    """
    shown = {key.strip("_").replace("_", "-"): escaped(str(value)) for key, value in attributes.items()}
    words = [name, *(f'{key}="{value}"' for key, value in shown.items())]
    begin = f"<{' '.join(words)}>"
    return Html(begin) if name in _WITHOUT_CONTENT else Html(f"{begin}{joined(*content)}</{name}>")


def joined(*content: str) -> Html:
    """Return pieces one after the other: `Html` as it is, any other text escaped."""
    return Html("".join(each if isinstance(each, Html) else escaped(each) for each in content))


def escaped(text: str) -> Html:
    """Return text as HTML that shows it, on one line; what cannot be shown is a question mark."""
    return Html(escape(printable(" ".join(text.split()))))
