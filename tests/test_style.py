"""What no file of the project may contain, over the syntax trees."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("datamodules", "dialogues", "evaluation", "lightning_modules", "models", "rewards")
FOLDERS = (*PACKAGES, "commands", "tests", "benchmarks")
FILES = sorted([*ROOT.glob("*.py"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))])
TEXTS = [*FILES, *(file for ending in ("md", "yaml", "cfg", "toml", "cff") for file in ROOT.glob(f"*.{ending}"))]
TEXTS += sorted((ROOT / "configs").rglob("*.yaml"))

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "compile", "breakpoint"}
# Written in two pieces, so that this file passes its own test.
FORBIDDEN_TEXT = re.compile(
    "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", r"\bpd" + "b", r"[\s'\"=](/ho" + r"me|/ro" + r"ot|/wo" + "rk)/"))
)
LONGEST_FILE = 320
LONGEST_FUNCTION = 60


def name_of(node: ast.expr) -> str:
    """The dotted name of a called thing, as far as it is one."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def is_true(call: ast.Call, keyword: str) -> bool:
    return any(
        given.arg == keyword and isinstance(given.value, ast.Constant) and given.value.value is True
        for given in call.keywords
    )


def call_findings(call: ast.Call, in_package: bool) -> list[str]:
    name = name_of(call.func)
    rules = {
        f"calls {name}": name in UNSAFE_CALLS or (in_package and name == "print"),
        "trusts remote code": is_true(call, "trust_remote_code"),
        "allows pickles": is_true(call, "allow_pickle"),
        "loads without weights_only=True": name.endswith(("torch.load", ".load_from_checkpoint"))
        and not is_true(call, "weights_only"),
        "loads YAML without a safe loader": name.endswith("yaml.load"),
    }
    return [f"{call.lineno}: {rule}" for rule, broken in rules.items() if broken]


def findings(source: str, in_package: bool) -> list[str]:
    """Every breach of the rules, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found += call_findings(node, in_package)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imported = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            found += [f"{node.lineno}: imports {name}" for name in sorted(UNSAFE_MODULES & imported)]
        elif isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.append(f"{node.lineno}: bare except")
            if all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body):
                found.append(f"{node.lineno}: an except that swallows")
        elif isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONGEST_FUNCTION:
            found.append(f"{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
    return found


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_code(file: Path) -> None:
    source = file.read_text()
    in_package = file.relative_to(ROOT).parts[0] in PACKAGES
    assert findings(source, in_package) == []
    assert relative(file).startswith("tests/") or source.count("\n") <= LONGEST_FILE


@pytest.mark.parametrize("file", TEXTS, ids=relative)
def test_text(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert [f"{number}: {line}" for number, line in enumerate(lines, 1) if FORBIDDEN_TEXT.search(line)] == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "print(1)",
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "Module.load_from_checkpoint(path)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "try:\n    f()\nexcept ValueError:\n    pass",
        "try:\n    f()\nexcept:\n    raise",
        "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION,
    ],
)
def test_rules_can_fail(source: str) -> None:
    assert findings(source, in_package=True)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile('x')",
        "torch.load(path, weights_only=True)",
        "def f():\n    x = 1\n" + "x = 1\n" * 99,
    ],
)
def test_rules_can_pass(source: str) -> None:
    assert findings(source, in_package=True) == []
