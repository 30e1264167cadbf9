"""How long contestants take that run side by side, and how much memory."""

import ctypes
import gc
import re
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

Contestant = Callable[[], Any]


def interleaved(contestants: Mapping[str, Contestant], rounds: int, device: str) -> dict[str, float]:
    """Return the median of the seconds that each takes.

    Args:
        contestants: by name; all take turns within each round. Call them once before: they are warm then.
        rounds: how often each is measured.
        device: waited for before a clock is read.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            seconds[name].append(timed(call, device))
    return {name: statistics.median(values) for name, values in seconds.items()}


def timed(call: Contestant, device: str) -> float:
    """Return how many seconds a call takes on the clock."""
    gc.collect()
    wait(device)
    started = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - started


def wait(device: str) -> None:
    """Wait until the device has done everything it was told to."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(build: Callable[[], Contestant], device: str) -> float:
    """Return how much memory one call takes at most, in 10^6 bytes.

    On a GPU it is what is allocated, weights included, in this process. On a CPU it is by how much the resident set of
    a fresh process grows beyond what is there before the call: weights and inputs; Linux only.

    Args:
        build: makes what is called, on a CPU in the fresh process: it must be importable.
        device: which of the two.
    """
    if device == "cuda":
        call = build()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() / 1e6
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_growth, build, torch.get_num_threads()).result()


def _growth(build: Callable[[], Contestant], threads: int) -> float:
    torch.set_num_threads(threads)
    call = build()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free but still mapped would be used unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(name: str) -> float:
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, name
    return 1.024e-3 * int(found[1])
