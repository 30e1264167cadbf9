"""A trained reasoner as one Hugging Face folder, from the module in memory or from a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from jsonargparse import ArgumentParser

from dialogues.base import Dialogue
from lightning_modules.files import expect_room, whole_folder
from lightning_modules.model_card import Source, model_card
from lightning_modules.weights import read_weights
from models.reasoners.base import Reasoner

#: What tells that a folder holds a model, or adapters, and may be replaced by a newer export of the same run.
MODEL_FILES = ("config.json", "adapter_config.json")


class Trained(NamedTuple):
    """What of a run's configuration an export needs."""

    stage: str
    reasoner: Reasoner
    dialogue: Dialogue


def write_model(
    reasoner: Reasoner,
    folder: Path,
    source: Source,
    dtype: Literal["float32", "bfloat16"] | None = None,
    adapters_only: bool = False,
) -> None:
    """Write a reasoner and its model card as a folder that is there as a whole or not at all.

    Args:
        reasoner: with its weights.
        folder: where to; what is there is replaced.
        source: where the weights come from.
        dtype: of the weights; None keeps theirs.
        adapters_only: write the adapters alone.
    """
    shown = dtype or ("float32" if adapters_only else str(next(reasoner.parameters()).dtype).removeprefix("torch."))
    card = model_card(source, reasoner.pretrained, shown, adapters_only, folder)
    with whole_folder(folder) as unfinished:
        reasoner.save_pretrained(unfinished, dtype, adapters_only)
        (unfinished / "README.md").write_text(card, encoding="utf-8")  # peft leaves one of its own


def export(
    checkpoint: Path,
    out: Path,
    config: Path | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    adapters_only: bool = False,
    trust_shards: bool = False,
    replaceable: Sequence[str] = (),
) -> None:
    """Write the reasoner of a checkpoint as one Hugging Face folder, on the CPU and without data.

    Args:
        checkpoint: what a run kept: a file, or the folder that a sharded strategy wrote.
        out: folder to write; it must be new or empty.
        config: configuration of the run; by default fit.yaml beside the checkpoint or one folder above.
        dtype: of the weights; by default that of the configuration.
        adapters_only: write the adapters alone, instead of merging them.
        trust_shards: open a folder of shards. They are pickles, which run whatever code they hold: say so for those of
            your own runs only.
        replaceable: a folder that holds one of these files may be replaced.

    Raises:
        FileExistsError: if there is something else in ``out``.
        FileNotFoundError: if there is no checkpoint or no configuration.
        ValueError: if the checkpoint is not of this configuration.
    """
    expect_room(out, replaceable)
    config = config or configuration_of(checkpoint)
    trained = build(config)
    weights = read_weights(checkpoint, trust_shards)
    trained.reasoner.configure()
    if dtype == "float32":
        trained.reasoner.float()  # before loading: ZeRO keeps more digits than the weights in use have
    state = {
        name.removeprefix("reasoner."): value for name, value in weights.state.items() if name.startswith("reasoner.")
    }
    try:
        trained.reasoner.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"Expected '{checkpoint}' to hold the reasoner of '{config}'; name the configuration of the same run by "
            f"`--config`: {str(error)[:1000]}"
        ) from error
    source = Source(trained.stage, trained.dialogue, str(checkpoint), weights.step, config)
    write_model(trained.reasoner, out, source, dtype, adapters_only)


def configuration_of(checkpoint: Path) -> Path:
    """Return fit.yaml beside a checkpoint or one folder above."""
    folders = checkpoint.absolute().parents[:2]
    for folder in folders:
        if (folder / "fit.yaml").is_file():
            return folder / "fit.yaml"
    raise FileNotFoundError(
        f"Expected the configuration of the run as fit.yaml in one of {[str(folder) for folder in folders]}, but there "
        "is none; name it by `--config`"
    )


def build(config: Path) -> Trained:
    """Build the reasoner and the dialogue of a run from its configuration; nothing else of it is built or loaded.

    Raises:
        ValueError: if the file is not the configuration of a run.
    """
    given = yaml.safe_load(config.read_text(encoding="utf-8"))
    try:
        model = given["model"]
        parts = {name: model["init_args"][name] for name in ("reasoner", "dialogue")}
    except (TypeError, KeyError) as error:
        raise ValueError(f"Expected the configuration of a run in '{config}', but it lacks {error}") from error
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Reasoner, "reasoner", required=True)
    parser.add_subclass_arguments(Dialogue, "dialogue", required=True)
    built = parser.instantiate_classes(parser.parse_object(parts))
    return Trained(model["class_path"].rpartition(".")[2], built.reasoner, built.dialogue)
