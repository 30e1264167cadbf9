"""``thinkseg export``."""

from jsonargparse import ArgumentParser

from lightning_modules.export import export
from thinkseg import COMMANDS


def run(words: list[str]) -> None:
    """Write the reasoner of a checkpoint as one Hugging Face folder."""
    parser = ArgumentParser(prog="thinkseg export", description=COMMANDS["export"])
    parser.add_function_arguments(export, as_positional=False, skip={"adapters_only", "trust_shards", "replaceable"})
    parser.add_argument("--adapters_only", action="store_true", help="write the adapters alone, not merged")
    parser.add_argument("--trust_shards", action="store_true", help="open shards, which can run code: your own only")
    parsed = parser.parse_args(words)
    export(**parsed)
    print(parsed.out)
