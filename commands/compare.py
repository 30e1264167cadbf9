"""``thinkseg compare``."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from thinkseg import COMMANDS


def percent(fraction: float) -> str:
    """Show a fraction as papers do, in percent without the sign."""
    return f"{100 * fraction:.1f}"


#: Column of the table -> key of a result, and how it is shown.
COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "J": ("J", percent),
    "F": ("F", percent),
    "J&F": ("JF", percent),
    "R": ("R", percent),
    "reward": ("reward", "{:.3f}".format),
}


def run(words: list[str]) -> None:
    """Print the results of several tests as one table, and write them as one file."""
    parser = ArgumentParser(prog="thinkseg compare", description=COMMANDS["compare"])
    parser.add_argument("results", nargs="+", metavar="NAME=FILE", help="name of a row, and a file that `test` wrote")
    parser.add_argument("--out", type=Path, help="JSON file to write the results to, by name")
    parsed = parser.parse_args(words)
    results = dict(read_results(word) for word in parsed.results)
    print(table(results))
    if parsed.out:
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
        parsed.out.write_text(json.dumps(results, indent=2) + "\n")


def read_results(word: str) -> tuple[str, dict[str, dict[str, float]]]:
    """Read ``NAME=FILE``, where the file holds a number per group and measure."""
    name, separator, file = word.partition("=")
    if not (name and separator and file):
        sys.exit(f"thinkseg compare: expected NAME=FILE, but got {word!r}")
    if not Path(file).is_file():
        sys.exit(f"thinkseg compare: expected results of {name!r} at {file}, but there is no such file")
    try:
        results: Any = json.loads(Path(file).read_text())
    except ValueError as error:
        sys.exit(f"thinkseg compare: expected {file} to hold JSON, but {error}")
    if not isinstance(results, dict) or not all(isinstance(row, dict) for row in results.values()):
        sys.exit(f"thinkseg compare: expected {file} to map groups to measures, but got {str(results)[:80]}")
    return name, results


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return results as a Markdown table with a row per name and group; a measure that was not taken is a dash.

    >>> print(table({"sft": {"overall": {"J": 0.5, "F": 0.25, "JF": 0.375, "reward": 1.5}}}))
    | run | queries |    J |    F |  J&F | R | reward |
    |-----|---------|-----:|-----:|-----:|--:|-------:|
    | sft | overall | 50.0 | 25.0 | 37.5 | – |  1.500 |
    """
    rows = [["run", "queries", *COLUMNS]]
    for name, groups in results.items():
        for group in sorted(groups, key="overall".__eq__):  # last; the others as they come
            row = groups[group]
            shown = [show(row[key]) if row.get(key) is not None else "–" for key, show in COLUMNS.values()]
            rows.append([name, group, *shown])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligns = [str.ljust, str.ljust, *[str.rjust] * len(COLUMNS)]
    lines = [
        "| " + " | ".join(align(cell, width) for align, cell, width in zip(aligns, row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = [
        "-" * (width + 2) if align is str.ljust else "-" * (width + 1) + ":"
        for align, width in zip(aligns, widths, strict=True)
    ]
    return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:]])
