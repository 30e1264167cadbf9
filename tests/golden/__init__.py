"""Golden vectors: inputs and outputs of published code, and the runners that compare ours with them.

A *kind* of golden file is a module ``tests/golden/<kind>.py`` with one function ``run(data) -> Report``. It walks the
sections of the file, gives the inputs of each case to our code and hands both results to `Report.compare`; expected
values are never inputs. ``python -m tests.golden KIND FILE`` runs any file of a kind; the file
``tests/golden/<kind>.json`` is run by the tests.
"""

import importlib
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

import torchvision_shim  # noqa: F401

FOLDER = Path(__file__).parent
#: fields of every file that carry no test data
COMMON_FIELDS = frozenset({"about", "kind", "source", "schema"})


class GoldenFileError(ValueError):
    """A file that is not what its kind prescribes."""


class Report:
    """What came of the cases of one file.

    A case passes if none of its fields differs and nothing was raised. Skipped cases are in neither count.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.failures: dict[str, list[str]] = {}
        self.skipped: dict[str, str] = {}
        self.differences: dict[str, float] = {}
        self._case = ""

    @property
    def total(self) -> int:
        """Number of cases that were run."""
        return len(self.failures)

    @property
    def passed(self) -> int:
        """Number of cases without a difference."""
        return sum(not fields for fields in self.failures.values())

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """Run the body as the case ``name`` (unique in the file); what it raises is its failure."""
        if name in self.failures:
            name = f"{name} #{len(self.failures)}"
        self._case = name
        self.failures[name] = []
        try:
            yield
        except Exception as error:  # any error in our code is a failure of this case, and of this case only
            self.failures[name].append(f"raised {type(error).__name__}: {error}")

    def skip(self, name: str, reason: str) -> None:
        """Report a case that is deliberately not run."""
        self.skipped[name] = reason

    def compare(self, field: str, got: Any, expected: Any, atol: float = 1e-6, rtol: float = 1e-5) -> None:
        """Compare a field of the current case.

        Numbers agree if ``|got - expected| <= atol + rtol * |expected|``; two integers, strings and None have to be
        equal; the strings ``NaN``, ``Infinity`` and ``-Infinity`` are numbers. Tensors and nested lists are compared
        item by item.
        """
        if wrong := list(self._differing(field, _plain(got), _plain(expected), atol, rtol)):
            more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
            self.failures[self._case].append("; ".join(wrong[:3]) + more)

    def _differing(self, field: str, got: Any, expected: Any, atol: float, rtol: float) -> Iterator[str]:
        if isinstance(got, dict) and isinstance(expected, dict) and got.keys() == expected.keys():
            for key in expected:
                yield from self._differing(f"{field}.{key}", got[key], expected[key], atol, rtol)
        elif isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
            for i, (left, right) in enumerate(zip(got, expected, strict=True)):
                yield from self._differing(f"{field}[{i}]", left, right, atol, rtol)
        elif isinstance(got, float) and isinstance(expected, int | float):
            difference = _difference(got, expected)
            component = re.sub(r"\.\d+(?=\.|$)", "", field.split("[")[0])
            self.differences[component] = max(self.differences.get(component, 0.0), difference)
            if not difference <= atol + (rtol * abs(expected) if math.isfinite(expected) else 0.0):
                yield f"{field}: got {got!r}, expected {expected!r}"
        elif got != expected or isinstance(got, bool) != isinstance(expected, bool):
            yield f"{field}: got {str(got)[:200]}, expected {str(expected)[:200]}"

    def lines(self) -> list[str]:
        """Return the report as text; the last line is ``KIND: passed/total``."""
        failed = [f"FAILED {name}: {field}" for name, fields in self.failures.items() for field in fields]
        skipped = [f"skipped {name}: {reason}" for name, reason in self.skipped.items()]
        largest = [f"largest difference of {field}: {value:.3g}" for field, value in sorted(self.differences.items())]
        return [*failed, *skipped, *largest, f"{self.kind}: {self.passed}/{self.total}"]


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _difference(got: float, expected: float) -> float:
    if got == expected or (math.isnan(got) and math.isnan(expected)):
        return 0.0
    return abs(got - expected) if math.isfinite(got) and math.isfinite(expected) else math.inf


def sections(data: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return the sections of a file.

    Raises:
        GoldenFileError: if there is one that is not among ``known``.
    """
    found = {name: section for name, section in data.items() if name not in COMMON_FIELDS}
    if unknown := sorted(set(found) - set(known)):
        raise GoldenFileError(f"Expected sections among {sorted(known)}, but got {unknown}")
    return found


def cases(content: dict[str, Any], section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a name and the content of each case of a section; none if the file has no such section.

    Raises:
        GoldenFileError: if the section is no list of objects.
    """
    listed = content.get(section, [])
    if not isinstance(listed, list) or not all(isinstance(case, dict) for case in listed):
        raise GoldenFileError(f"Expected `{section}` to be a list of objects, but got {str(listed)[:80]}")
    for number, case in enumerate(listed):
        yield f"{section}/{case.get('desc', case.get('name', case.get('id', number)))}", case


def kinds() -> list[str]:
    """Return the kinds there is a runner for."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith(("_", "test_")))


def run(kind: str, data: Any) -> Report:
    """Run all cases of a file.

    Raises:
        GoldenFileError: if there is no runner for ``kind``, or ``data`` is of another kind or has an unknown section.
    """
    if kind not in kinds():
        raise GoldenFileError(f"Expected a kind among {kinds()}, but got {kind!r}")
    if not isinstance(data, dict):
        raise GoldenFileError(f"Expected an object with sections, but got {str(data)[:80]}")
    if data.get("kind") != kind:
        raise GoldenFileError(f"Expected a file of kind {kind!r}, but got {data.get('kind')!r}")
    report = importlib.import_module(f"tests.golden.{kind}").run(data)
    if not isinstance(report, Report):
        raise TypeError(f"Expected `tests.golden.{kind}.run` to return a Report, but got {type(report).__name__}")
    return report
