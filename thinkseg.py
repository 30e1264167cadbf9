"""The one command of thinkseg: ``fit``, ``validate``, ``test`` and ``predict``, and what comes before and after them.

Heavy packages are imported by the command that needs them, so that ``thinkseg --help`` is quick.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence

#: First word of the command line, and what it does.
COMMANDS = {
    "fit": "train a model",
    "validate": "measure the validation split by its benchmark's protocol, and rewards",
    "test": "measure the test split by its benchmark's protocol, and rewards",
    "predict": "write masks and overlays",
    "data shapes": "write the built-in toy benchmark",
    "data check": "say what of a dataset is there, missing or broken",
    "evaluate": "measure predictions on disk by the protocol of a benchmark",
    "submit": "write predictions on disk as the archive that a benchmark's server takes",
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
    elif command in {name.split()[0] for name in COMMANDS}:
        importlib.import_module(f"commands.{command}").run(words[1:])
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


if __name__ == "__main__":
    main()
