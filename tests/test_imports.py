"""Who may import whom, over the syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("commands", "datamodules", "dialogues", "evaluation", "lightning_modules", "models", "rewards")
LIBRARY = (*PACKAGES, "torchvision_shim")

#: module -> which of our modules it may import; the longest prefix counts, and a module may import its own package.
ARROWS = {
    "torchvision_shim": (),
    "datamodules": (),
    "dialogues": ("datamodules",),
    "models": ("datamodules", "dialogues"),
    "rewards": ("datamodules.canvas", "datamodules.structures", "dialogues.episode", "evaluation.functional"),
    "evaluation": ("datamodules",),
    "evaluation.functional": ("datamodules.masks",),
    "evaluation.metrics": ("evaluation.functional",),
    "lightning_modules": ("datamodules", "dialogues", "evaluation", "models", "rewards"),
    "commands": (*LIBRARY, "thinkseg"),
    "thinkseg": LIBRARY,
}
#: third-party package -> the only modules that may import it; what it brings stays behind their doors.
DOORS = {
    "transformers": ("models.reasoners", "models.segmenters", "lightning_modules.zero"),
    "peft": ("models.reasoners", "models.segmenters"),
    "trl": ("models.reasoners", "lightning_modules.policy"),
    "deepspeed": ("lightning_modules.zero", "lightning_modules.zero_shards"),
    "sam2": ("models.segmenters.sam2_package",),
    "hydra": ("models.segmenters.sam2_package",),
    "tensorboard": (),
    "numba": ("evaluation.functional.kernels",),
}
#: these do not even know their own package
LEAVES = ("evaluation.functional", "evaluation.metrics")


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def modules() -> dict[str, Path]:
    files = [ROOT / "thinkseg.py", ROOT / "torchvision_shim.py"]
    files += [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return dict(zip((name.removesuffix(".__init__") for name in names), files, strict=True))


def imports(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every import as the names it could mean: ``from a import b`` is a module ``a.b`` or a name in ``a``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"line {node.lineno}: expected absolute imports only"
            assert node.level == 0, f"line {node.lineno}: expected absolute imports only"
            yield from ((node.module, f"{node.module}.{alias.name}") for alias in node.names)


def violations(module: str, source: str) -> list[str]:
    arrows = ARROWS[max((prefix for prefix in ARROWS if within(module, (prefix,))), key=len)]
    leaf = next((leaf for leaf in LEAVES if within(module, (leaf,))), None)
    own = (leaf or module.split(".")[0],)
    wrong = []
    for names in imports(ast.parse(source)):
        package = names[0].split(".")[0]
        if package in ARROWS:
            allowed = any(within(name, (*arrows, *own, "torchvision_shim")) for name in names)
        else:
            allowed = within(module, DOORS.get(package, (module,)))
        wrong += [] if allowed else [f"{module} imports {names[-1]}"]
    return wrong


@pytest.mark.parametrize(("module", "file"), modules().items(), ids=modules())
def test_arrows(module: str, file: Path) -> None:
    assert violations(module, file.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("datamodules.revos", "from models.reasoners import base", True),
        ("datamodules.revos", "from datamodules import masks", False),
        ("rewards.mask", "import dialogues.veason_r1", True),
        ("rewards.mask", "from dialogues import episode", False),
        ("rewards.mask", "from dialogues import base", True),
        ("evaluation.metrics", "from evaluation.functional import region_similarity", False),
        ("evaluation.metrics", "from evaluation import protocols", True),
        ("evaluation.functional", "if True:\n    import datamodules", True),
        ("lightning_modules.grpo", "def f():\n    from transformers import AutoModel", True),
        ("models.reasoners.qwen_vl", "import transformers.models", False),
        ("lightning_modules.callbacks", "from tensorboard import program", True),
        ("models.segmenters.sam2", "def f():\n    from sam2.build_sam import build_sam2", True),
        ("models", "import thinkseg", True),
    ],
)
def test_arrows_can_fail(module: str, source: str, wrong: bool) -> None:
    assert bool(violations(module, source)) == wrong
