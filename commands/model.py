"""``thinkseg model``."""

from dataclasses import fields
from pathlib import Path

from jsonargparse import ArgumentParser

from models.reasoners.scratch import ScratchConfig, save
from thinkseg import COMMANDS


def run(words: list[str]) -> None:
    """Build a small random reasoner from a configuration and save it."""
    parsed = model_parser().parse_args(words)
    save(ScratchConfig(**{field.name: parsed[field.name] for field in fields(ScratchConfig)}), parsed.out)


def model_parser() -> ArgumentParser:
    """Return the parser of ``thinkseg model``."""
    parser = ArgumentParser(prog="thinkseg model", description=COMMANDS["model"])
    parser.add_argument("-c", "--config", action="config", help="file of the options below")
    parser.add_class_arguments(ScratchConfig)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser
