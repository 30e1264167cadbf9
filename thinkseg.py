"""The one command of thinkseg: ``fit``, ``validate``, ``test`` and ``predict``, and what comes before and after them.

Heavy packages are imported by the command that needs them, so that ``thinkseg --help`` is quick.
"""

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

#: First word of the command line, and what it does.
COMMANDS = {
    "fit": "train a model",
    "validate": "measure J, F, R and rewards on the validation split",
    "test": "measure J, F, R and rewards on the test split",
    "predict": "write masks and overlays",
    "data shapes": "write the built-in toy benchmark",
    "data check": "say what of a dataset is there, missing or broken",
    "model": "write a small random reasoner as a Hugging Face folder",
    "export": "write a checkpoint, sharded or not, as one Hugging Face folder",
    "compare": "put results of several tests into one table",
}
HELP = """usage: thinkseg COMMAND [--help] [options]

Train and evaluate reasoning video object segmentation.

commands:
{commands}

`thinkseg COMMAND --help` lists the options of a command. The first four are Lightning's: they take configurations by
`-c FILE`, later files over earlier ones, any single value by its dotted name (`--model.learning_rate 1e-6`), and
`--print_config` to see the outcome.
"""

#: Everything a run leaves lies in `trainer.default_root_dir`: configuration, checkpoints, pictures, TensorBoard's log.
TRAINER_DEFAULTS = {
    "default_root_dir": "runs/latest",
    "logger": {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": "${...default_root_dir}", "name": "", "version": ""},
    },
}


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


def main(args: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        args: words of the command line; by default those of the process.
    """
    words = sys.argv[1:] if args is None else list(args)
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {name:<12} {what}" for name, what in COMMANDS.items())))
    elif command in ("fit", "validate", "test", "predict"):
        run_trainer(words)
    elif command in TOOLS:
        TOOLS[command](words[1:])
    else:
        sys.exit(f"thinkseg: expected a command out of {[*COMMANDS]}, but got {command!r}; see `thinkseg --help`")


def run_trainer(words: list[str]) -> None:
    """Run Lightning's CLI.

    A class is known by its short name because its package is imported here; any other by its full ``class_path``.
    Checkpoints are opened with ``weights_only=True`` unless the command line says otherwise.
    """
    import torchvision_shim  # noqa: F401, I001
    from lightning.pytorch.cli import LightningCLI

    import dialogues  # noqa: F401
    import evaluation.protocols  # noqa: F401
    import lightning_modules.callbacks  # noqa: F401
    import models.reasoners
    import models.segmenters  # noqa: F401
    import rewards  # noqa: F401
    from datamodules import VideoDataModule
    from lightning_modules import SegmentationModule

    command, *rest = words
    # The words may come from a caller instead of the shell: that is what `args` is for.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    # Samples stay where they are until a part reads them: that is what the override is for.
    warnings.filterwarnings("ignore", message="You have overridden `transfer_batch_to_device`")
    LightningCLI(
        SegmentationModule,
        VideoDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        trainer_defaults=TRAINER_DEFAULTS,
        save_config_kwargs={"overwrite": True, "config_filename": f"{command}.yaml"},
        parser_kwargs={"parser_mode": "omegaconf+"},
        args=[command, "--weights_only=true", *rest],
    )


def run_data(words: list[str]) -> None:
    """Write the toy benchmark, or check a dataset."""
    from tqdm import tqdm

    from datamodules.check import check
    from datamodules.shapes import write_shapes

    parser = data_parser()
    parsed = parser.parse_args(words)
    if parsed.subcommand == "shapes":
        written = write_shapes(**parsed.shapes, progress=show_progress)
        print(json.dumps(written, indent=2))
        return
    report = check(parser.instantiate_classes(parsed).check.dataset, progress=tqdm)
    print(report)
    sys.exit(0 if report.ok else 1)


def data_parser() -> "ArgumentParser":
    """Return the parser of ``thinkseg data``."""
    from jsonargparse import ArgumentParser

    from datamodules import VideoDataset
    from datamodules.shapes import write_shapes

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


def run_model(words: list[str]) -> None:
    """Build a small random reasoner from a configuration and save it."""
    from models.reasoners.scratch import ScratchConfig, save

    parsed = model_parser().parse_args(words)
    save(ScratchConfig(**{field.name: parsed[field.name] for field in fields(ScratchConfig)}), parsed.out)


def model_parser() -> "ArgumentParser":
    """Return the parser of ``thinkseg model``."""
    from jsonargparse import ArgumentParser

    from models.reasoners.scratch import ScratchConfig

    parser = ArgumentParser(prog="thinkseg model", description=COMMANDS["model"])
    parser.add_argument("-c", "--config", action="config", help="file of the options below")
    parser.add_class_arguments(ScratchConfig)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser


def run_export(words: list[str]) -> None:
    """Write the reasoner of a checkpoint as one Hugging Face folder."""
    import torchvision_shim  # noqa: F401, I001
    from jsonargparse import ArgumentParser

    from lightning_modules.export import export

    parser = ArgumentParser(prog="thinkseg export", description=COMMANDS["export"])
    parser.add_function_arguments(export, as_positional=False, skip={"adapters_only", "trust_shards", "replaceable"})
    parser.add_argument("--adapters_only", action="store_true", help="write the adapters alone, not merged")
    parser.add_argument("--trust_shards", action="store_true", help="open shards, which can run code: your own only")
    parsed = parser.parse_args(words)
    export(**parsed)
    print(parsed.out)


def run_compare(words: list[str]) -> None:
    """Print the results of several tests as one table, and write them as one file."""
    from jsonargparse import ArgumentParser

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


TOOLS: dict[str, Callable[[list[str]], None]] = {
    "data": run_data,
    "model": run_model,
    "export": run_export,
    "compare": run_compare,
}

if __name__ == "__main__":
    main()
