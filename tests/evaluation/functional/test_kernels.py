import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from evaluation.functional.kernels import compiled, fill_runs, parse_runs
from tests.evaluation.functional import plain

pictures = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def test_compiles_where_no_cache_can_be_written():
    def double(number):
        return 2 * number

    double.__code__ = double.__code__.replace(co_filename="nowhere.py")
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(double)
    assert compiled(double)(21) == 42


def test_surplus_runs_are_not_written():
    plane = np.zeros((1, 2), np.uint64)
    beyond = np.zeros((1, 2), np.uint64)  # likely the next in memory
    fill_runs(np.array([1, 10**15]), plane, 3)
    assert plane.tolist() == [[0b110, 0b111]]
    assert not beyond.any()


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        (b"6", [6]),
        (b"15", [1, 5]),
        (b"1121", [1, 1, 2, 2]),  # the fourth is 1 more than the second, the third is itself
        (b"07O", []),  # -1: a run is not negative
        (b"7", []),  # surplus
        (b"5", []),  # too few
        (b"6`", []),  # ends within a number
        (b"", []),
    ],
)
def test_parse_runs(text, runs):
    assert parse_runs(np.frombuffer(text, np.uint8), 6).tolist() == runs


@given(pictures)
def test_parse_runs_needs_no_help(mask):
    text = np.frombuffer(plain.of_bytes(mask)["counts"], np.uint8)
    assert parse_runs(text, mask.size).tolist() == plain.runs(mask)["counts"]
