"""``thinkseg evaluate``."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from tqdm import tqdm

from commands.options import add_inputs, choose_split, mistakes_in_words
from datamodules import VideoDataset
from evaluation.benchmark import measure, open_checked
from evaluation.protocols import BenchmarkProtocol, protocol_of
from evaluation.report import write_report
from evaluation.results import Result
from evaluation.scoring import Outcome
from evaluation.tables import show, write_tables
from thinkseg import COMMANDS


def run(words: list[str]) -> None:
    """Measure predictions on disk, print the table, and write it with all that belongs to it.

    The exit status is 1 if an annotation is broken, because the numbers are then not of the whole benchmark; whatever
    is wrong with predictions is scored and listed, and is no error. What cannot be measured at all is a sentence.
    """
    parser = evaluate_parser()
    parsed = parser.parse_args(words)
    with mistakes_in_words("evaluate"):
        dataset, protocol = _parts(parser, parsed)
        predictions = open_checked(dataset, parsed.predictions, protocol, parsed.workers, parsed.out)
    evaluation = measure(dataset, predictions, protocol, parsed.workers, parsed.out, _show_progress)
    print(show(evaluation))
    if parsed.out is not None:
        write_tables(evaluation, parsed.out)
        write_report(evaluation, dataset, predictions, parsed.out, progress=_show_drawing)
        print(f"\n{parsed.out}")
    sys.exit(0 if all(result.measurable for result in evaluation.results) else 1)


def evaluate_parser() -> ArgumentParser:
    """Return the parser of ``thinkseg evaluate``."""
    parser = ArgumentParser(prog="thinkseg evaluate", description=COMMANDS["evaluate"])
    add_inputs(parser)
    parser.add_subclass_arguments(
        BenchmarkProtocol, "protocol", required=False, help="how it is measured; default: as the dataset's benchmark"
    )
    parser.add_argument("--official", action="store_true", help="as the benchmark's own tool does, defects included")
    parser.add_argument("--workers", type=int, default=1, help="threads; they help where PNGs are read")
    parser.add_argument("--out", type=Path, help="folder for tables and a report; a second run goes on from there")
    return parser


def _parts(parser: ArgumentParser, parsed: Namespace) -> tuple[VideoDataset, BenchmarkProtocol]:
    """Return dataset and protocol, as they are asked for."""
    choose_split(parsed)
    if parsed.protocol is not None and parsed.official:
        parsed.protocol.init_args.official = True
    if parsed.official and "official" in parsed.dataset.init_args:
        parsed.dataset.init_args.official = True  # a defect of how the tool reads, not of how it measures
    made = parser.instantiate_classes(parsed)
    return made.dataset, made.protocol or protocol_of(type(made.dataset).__name__)(parsed.official)


def _show_progress(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
    bar: Iterable[Outcome] = tqdm(outcomes, total=total, unit=" units")
    return bar


def _show_drawing(results: Sequence[Result]) -> Iterable[Result]:
    bar: Iterable[Result] = tqdm(results, unit=" film strips")
    return bar
