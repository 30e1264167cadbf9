"""What benchmarks of contestants share: turns are taken, medians are medians, memory is what is added."""

from functools import partial

import pytest
import torch

from benchmarks import measuring
from benchmarks.measuring import interleaved, peak_memory

MEGABYTES = 1_000_000


class Filling:
    """Holds some memory, and at its call touches some more for a moment."""

    def __init__(self, held: int, touched: int) -> None:
        self.held = torch.ones(held * MEGABYTES, dtype=torch.uint8)
        self.touched = touched

    def __call__(self) -> None:
        torch.ones(self.touched * MEGABYTES, dtype=torch.uint8)


@pytest.mark.parametrize("held", [0, 200])
def test_memory_is_what_a_call_adds_for_a_moment(held):
    assert peak_memory(partial(Filling, held, 100), "cpu") == pytest.approx(100, abs=10)


def test_contestants_take_turns(monkeypatch):
    seconds = iter([5.0, 1.0, 3.0, 2.0, 4.0, 30.0])
    called = []

    def timed(call, device, clock):
        call()
        return next(seconds)

    monkeypatch.setattr(measuring, "timed", timed)
    medians = interleaved({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 3, "cpu")
    assert called == ["a", "b"] * 3
    assert medians == {"a": 4.0, "b": 2.0}
