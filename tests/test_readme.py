"""What the README says is there: the tree, the commands, the files."""

import re
from pathlib import Path

import pytest

import thinkseg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PACKAGES = ("datamodules", "dialogues", "evaluation", "lightning_modules", "models", "rewards")


def tree() -> list[str]:
    """The paths of the annotated tree; depth is two blanks per folder."""
    paths: list[str] = []
    folders: list[str] = []
    for line in README.split("## Tree")[1].split("```")[1].strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = folders[:depth]
        paths.append("".join([*folders, name]))
        folders.append(name)
    return paths


def test_the_tree_is_the_tree() -> None:
    assert [path for path in tree() if not (ROOT / path).exists()] == []
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert files - set(tree()) == set()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^thinkseg (data \w+|\w+)", README, re.MULTILINE))))
def test_commands_exist(command: str) -> None:
    assert command in thinkseg.COMMANDS


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make (demo|test|install|quick|sam2)", README))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("file", sorted(set(re.findall(r"(?:configs|docs|assets|constraints)/[\w./-]+\.\w+", README))))
def test_files_exist(file: str) -> None:
    assert (ROOT / file).exists()
