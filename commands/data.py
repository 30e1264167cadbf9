"""``thinkseg data shapes`` and ``thinkseg data check``."""

import json
import sys

from jsonargparse import ArgumentParser
from tqdm import tqdm

from datamodules import VideoDataset
from datamodules.check import check
from datamodules.shapes import write_shapes
from thinkseg import COMMANDS


def run(words: list[str]) -> None:
    """Write the toy benchmark, or check a dataset."""
    parser = data_parser()
    parsed = parser.parse_args(words)
    if parsed.subcommand == "shapes":
        written = write_shapes(**parsed.shapes, progress=show_progress)
        print(json.dumps(written, indent=2))
        return
    report = check(parser.instantiate_classes(parsed).check.dataset, progress=tqdm)
    print(report)
    sys.exit(0 if report.ok else 1)


def data_parser() -> ArgumentParser:
    """Return the parser of ``thinkseg data``."""
    parser = ArgumentParser(prog="thinkseg data")
    commands = parser.add_subcommands()
    shapes = ArgumentParser(description=COMMANDS["data shapes"])
    shapes.add_function_arguments(write_shapes, as_positional=False, skip={"progress"})
    commands.add_subcommand("shapes", shapes, help=COMMANDS["data shapes"])
    checking = ArgumentParser(description=COMMANDS["data check"])
    checking.add_subclass_arguments(VideoDataset, "dataset", required=True)
    commands.add_subcommand("check", checking, help=COMMANDS["data check"])
    return parser


def show_progress(done: int, total: int) -> None:
    """Show how many videos are written, on one line of a terminal; elsewhere only in the end."""
    if done == total or sys.stderr.isatty():
        print(f"\r{done}/{total} videos", end="\n" if done == total else "", file=sys.stderr, flush=True)
