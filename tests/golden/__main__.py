"""``python -m tests.golden KIND FILE``: compare our code with the golden vectors of any file of a kind."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.golden import GoldenFileError, kinds, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 0 if all cases passed, 1 if one failed, 2 if the file cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("kind", metavar="KIND", choices=kinds(), help=f"one of {', '.join(kinds())}")
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON file of that kind")
    given = parser.parse_args(arguments)
    try:
        data = json.loads(given.file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return refused(given.file, error)
    try:
        report = run(given.kind, data)
    except GoldenFileError as error:
        return refused(given.file, error)
    print("\n".join(report.lines()))
    return 0 if report.passed == report.total else 1


def refused(file: Path, error: Exception) -> int:
    """Print why a file cannot be run; return the exit status that says so."""
    print(f"{file}: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
