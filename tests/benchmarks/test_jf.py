"""A short run of ``benchmarks/jf.py``: both ways give the same counts, and its rows say what they claim."""

import json

import numpy as np
import pytest

from benchmarks import jf
from evaluation.functional import BitMasks


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(jf, "SIZES", {"480p": (120, 160), "720p": (90, 170), "1080p": (65, 64)})


@pytest.mark.parametrize("case", jf.CASES)
def test_both_give_the_same_counts(case):
    preds, targets = jf.masks_of(case, 2)
    expected = jf.official_counts(preds, targets)
    assert jf.our_counts(preds, targets) == expected
    assert all(len(counts) == 6 and min(counts[1:4]) > 0 for counts in expected)  # union and boundaries are there


@pytest.mark.parametrize("kind", jf.KINDS)
def test_both_forms_are_the_same_masks(kind):
    for dense, rles in zip(
        jf.masks_of(f"official_480p_{kind}", 2), jf.masks_of(f"official_480p_{kind}_rle", 2), strict=True
    ):
        assert dense.shape == (2, 120, 160)
        assert np.array_equal(BitMasks.of(rles).dense().numpy(), dense)


def test_result(tmp_path):
    path = tmp_path / "result.json"
    jf.main(["official_480p_typical", "--json", str(path), "--frames", "2", "--rounds", "2"])
    result = json.loads(path.read_text())
    [row] = result["rows"]
    assert result["ratio"] == {"official_480p_typical": row["ratio"]}
    assert row["ratio"] == row["official_ms"] / row["ours_ms"]
    assert min(value for name, value in row.items() if name != "case") > 0


def test_a_wrong_count_is_no_result(monkeypatch):
    monkeypatch.setattr(jf, "our_counts", lambda preds, targets: [(0, 0, 0, 0, 0, 0)])
    with pytest.raises(ValueError, match="Expected the official counts"):
        jf.measure("official_480p_sparse", frames=1, rounds=1)
