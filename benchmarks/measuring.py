"""How long contestants take that run side by side, how much memory, and on what."""

import ctypes
import gc
import platform
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


def interleaved(
    contestants: Mapping[str, Contestant], rounds: int, device: str, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median of the seconds that each takes.

    Args:
        contestants: by name; all take turns within each round. Call them once before: they are warm then.
        rounds: how often each is measured.
        device: waited for before the clock is read.
        clock: in seconds; ``time.process_time`` leaves out what other processes take.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            seconds[name].append(timed(call, device, clock))
    return {name: statistics.median(values) for name, values in seconds.items()}


def timed(call: Contestant, device: str, clock: Callable[[], float]) -> float:
    """Return how many seconds a call takes on a clock."""
    gc.collect()
    wait(device)
    started = clock()
    call()
    wait(device)
    return clock() - started


def wait(device: str) -> None:
    """Wait until the device has done everything it was told to."""
    if device == "cuda":
        torch.cuda.synchronize()


def processor(device: str) -> str:
    """Return the name of what computes."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


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
