"""Fields of a JSON object that must be there, and of which kind."""

from typing import Any


def read_field(content: Any, name: str, kind: type[Any] | tuple[type[Any], ...], where: str) -> Any:
    """Return a field of a JSON object.

    Args:
        content: the object.
        name: the field.
        kind: what the field must be.
        where: the object and its file, for messages.

    Raises:
        ValueError: if ``content`` is no object, or has no such field of that kind.
    """
    value = content.get(name) if isinstance(content, dict) else None
    if isinstance(value, kind):
        return value
    kinds = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
    raise ValueError(f"Expected `{name}` of {where} to be {kinds}, but got {str(value)[:80]} in {str(content)[:200]}")


def read_list(content: Any, name: str, kind: type[Any], where: str) -> list[Any]:
    """Return a field of a JSON object that is a list of one kind of items; see `read_field`.

    Raises:
        ValueError: if ``content`` is no object, or has no such field.
    """
    items = read_field(content, name, list, where)
    for item in items:
        if not isinstance(item, kind):
            raise ValueError(
                f"Expected `{name}` of {where} to be a list of {kind.__name__}, but got {str(item)[:80]} in it"
            )
    return items  # type: ignore[no-any-return]
