"""``thinkseg submit``."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from tqdm import tqdm

from commands.options import add_inputs, choose_split, mistakes_in_words
from evaluation.submission import Draft, IncompleteSubmissionError
from evaluation.submission.layouts import Unit
from evaluation.tables import lines_of, printable
from thinkseg import COMMANDS


def run(words: list[str]) -> None:
    """Write predictions as a server takes them; or print what is missing, and exit with status 1."""
    parser = ArgumentParser(prog="thinkseg submit", description=COMMANDS["submit"])
    add_inputs(parser)
    parser.add_argument("--out", type=Path, required=True, help="ZIP file to write")
    parsed = parser.parse_args(words)
    choose_split(parsed)
    with mistakes_in_words("submit"):
        draft = Draft(parser.instantiate_classes(parsed).dataset, parsed.predictions, parsed.out)
    try:
        submission = draft.write(_show_progress)
    except IncompleteSubmissionError as error:
        sys.exit("\n".join(map(printable, str(error).splitlines())))
    print("\n".join(lines_of(submission.setting)))
    for sentence in submission.surplus:
        print(printable(f"  - left out: {sentence}"))


def _show_progress(units: Sequence[Unit]) -> Iterable[Unit]:
    bar: Iterable[Unit] = tqdm(units, unit=" folders")
    return bar
