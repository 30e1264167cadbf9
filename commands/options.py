"""Options that several words of the command line share."""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from datamodules import VideoDataset


def add_inputs(parser: ArgumentParser) -> None:
    """Let a command take a dataset, its split, and predictions about it."""
    parser.add_subclass_arguments(VideoDataset, "dataset", required=True)
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
