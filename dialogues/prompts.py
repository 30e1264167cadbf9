"""Wording by role: prompts that a YAML file can swap."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def fill(wording: str, **values: object) -> str:
    """Replace each ``{name}`` by its value, in one pass: braces inside a value, and other names, stay as they are."""
    return _PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), wording)


def load_prompts(path: Path, placeholders: Mapping[str, Collection[str]], required: Collection[str]) -> dict[str, str]:
    """Read a wording for each role.

    Args:
        path: YAML file, a mapping from role to text; an empty text leaves the role out.
        placeholders: the roles, and the names each may hold in braces.
        required: names that have to occur in some role, because nobody could answer without them.

    Returns:
        The texts by role.

    Raises:
        ValueError: if a role is missing or unknown, its text is none or holds an unknown placeholder, or a required
            placeholder is nowhere.
    """
    wordings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(wordings, dict) or wordings.keys() != placeholders.keys():
        got = sorted(map(str, wordings)) if isinstance(wordings, dict) else type(wordings).__name__
        raise ValueError(f"Expected exactly the roles {sorted(placeholders)} in {path}, but got {got}")
    used = set()
    for role, wording in wordings.items():
        if not isinstance(wording, str):
            raise ValueError(f"Expected `{role}` to be a text in {path}, but got {wording!r}; quote it")
        names = set(_PLACEHOLDER.findall(wording))
        if unknown := sorted(names - set(placeholders[role])):
            raise ValueError(f"Expected `{role}` in {path} to hold {sorted(placeholders[role])}, but got {unknown}")
        used |= names
    if missing := sorted(set(required) - used):
        raise ValueError(f"Expected the placeholders {sorted(required)} somewhere in {path}, but got no {missing}")
    return wordings
