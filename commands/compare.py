"""``thinkseg compare``."""

import json
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from evaluation.tables import TextTable, cells, headings, printable
from thinkseg import COMMANDS


def run(words: list[str]) -> None:
    """Print the results of several tests as one table, and write them as one file."""
    parser = ArgumentParser(prog="thinkseg compare", description=COMMANDS["compare"])
    parser.add_argument(
        "results", nargs="+", metavar="NAME=FILE", help="name of a row, and a file that `test` or `evaluate` wrote"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write the results to, by name")
    parsed = parser.parse_args(words)
    given = [read_results(word) for word in parsed.results]
    results = dict(given)
    if len(results) < len(given):
        sys.exit(f"thinkseg compare: expected a name for each file, but got {[name for name, _ in given]}")
    print(table(results))
    if parsed.out:
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
        parsed.out.write_text(json.dumps(results, indent=2) + "\n")


def read_results(word: str) -> tuple[str, dict[str, dict[str, float | None]]]:
    """Read ``NAME=FILE``, where the file holds a number per group and measure, or a ``table`` of them."""
    name, separator, file = word.partition("=")
    if not (name and separator and file):
        sys.exit(f"thinkseg compare: expected NAME=FILE, but got {word!r}")
    if not Path(file).is_file():
        sys.exit(f"thinkseg compare: expected results of {name!r} at {file}, but there is no such file")
    try:
        content: Any = json.loads(Path(file).read_text())
    except (ValueError, RecursionError) as error:
        sys.exit(f"thinkseg compare: expected {file} to hold JSON, but {error}")
    results = content.get("table") if isinstance(content, dict) and "setting" in content else content
    if not isinstance(results, dict) or not all(map(_is_row, results.values())):
        sys.exit(f"thinkseg compare: expected {file} to map groups to measures, but got {str(results)[:80]}")
    return name, results


def table(results: dict[str, dict[str, dict[str, float | None]]]) -> str:
    """Return results as a Markdown table with a row per name and group; a measure that was not taken is a dash.

    >>> print(table({"sft": {"overall": {"J": 0.5, "F": 0.25, "reward": 1.5, "JF": 0.375, "R": None}}}))
    | run | queries |    J |    F |  J&F | R | reward |
    |-----|---------|-----:|-----:|-----:|--:|-------:|
    | sft | overall | 50.0 | 25.0 | 37.5 | – |  1.500 |
    """
    columns = headings(measure for groups in results.values() for row in groups.values() for measure in row)
    rows = [[name, *map(printable, row)] for name, groups in results.items() for row in cells(groups, columns)]
    return TextTable(["run", "queries", *columns.values()], rows, labels=2).markdown()


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(value is None or _is_number(value) for value in row.values())


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)  # a float holds it
