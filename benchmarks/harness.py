"""What the benchmarks share: their command line, processes of their own, memory, and how results are shown and kept."""

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def command_line(
    doc: str | None, peer: str | None = None, device: str = "makes no difference: none is used"
) -> argparse.ArgumentParser:
    """Return the options of every benchmark.

    Args:
        doc: what the benchmark is, for ``--help``.
        peer: the only thing there is to compare with, on a dataset that is written first.
        device: what the choice of a device means.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help=device)
    parser.add_argument("--json", type=Path, help="file to write the result to")
    if peer is not None:
        parser.add_argument("peer", nargs="?", choices=[peer], default=peer, help="what to compare with")
        parser.add_argument("--folder", type=Path, help="where the dataset is kept for another run; default: nowhere")
    return parser


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own; the one it is forked from has opened no data."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()


def pss(process: int) -> float:
    """Return the proportional set size of a process, in 10^6 bytes; Linux only."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1.024e-3 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def show(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print rows as they come, and return them."""
    shown = []
    for row in rows:
        shown.append(row)
        print({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}, flush=True)
    return shown


def finish(
    path: Path | None, name: str, setting: dict[str, Any], ratio: dict[str, float], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write what was measured, and return it.

    Args:
        path: JSON file; None writes nothing.
        name: of the benchmark.
        setting: what it was measured on; processors and Python are added.
        ratio: by peer or case, how many times as much it takes.
        rows: everything that was measured.
    """
    machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
    result = {"name": name, "setting": setting | machine, "ratio": ratio, "rows": rows}
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")
    return result
