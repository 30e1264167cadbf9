"""Options that several words of the command line share."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from datamodules import VideoDataset
from evaluation.tables import printable


def add_inputs(parser: ArgumentParser) -> None:
    """Let a command take a dataset, its split, and predictions about it."""
    parser.add_subclass_arguments(
        VideoDataset, "dataset", help="a file of configs/data, or a class; required", required=True
    )
    parser.add_argument("--split", help="part of the dataset, short for --dataset.split")
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        help="folder or ZIP file of <video>/<expression>/<frame>.png, results.json, or another layout of a benchmark",
    )


def choose_split(parsed: Namespace) -> None:
    """Give the dataset the split that is asked for, if one is."""
    if parsed.split is not None:
        parsed.dataset.init_args.split = parsed.split


@contextmanager
def mistakes_in_words(command: str) -> Iterator[None]:
    """Exit with what is wrong, instead of a traceback, where it is what the user gave and not the code.

    Args:
        command: word of the command line.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        sys.exit(f"thinkseg {command}: {printable(str(error))}")
