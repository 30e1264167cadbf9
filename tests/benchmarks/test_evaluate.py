"""A short run of ``benchmarks/evaluate.py``: ours and the peer measure the same, and its rows say what they claim."""

import json

import pytest

from benchmarks.evaluate import main


def test_result(tmp_path):
    words = ["per_expression", "--folder", str(tmp_path / "made"), "--json", str(tmp_path / "result.json")]
    main([*words, "--expressions", "20", "--frames", "3", "--peer_expressions", "4", "--workers", "2"])
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) == {"name", "setting", "ratio", "rows"}
    peer, *rows = result["rows"]
    assert [(row["what"], row["source"], row.get("workers")) for row in rows] == [
        ("decode", "rle", None),
        ("decode", "png", None),
        ("evaluate", "rle", 1),
        ("evaluate", "rle", 2),
        ("evaluate", "png", 1),
        ("evaluate", "png", 2),
    ]
    for row in rows[2:]:
        assert row["first"] == pytest.approx(peer["first"], abs=1e-9)
        assert 0.2 < row["JF"] < 1
        assert row["frame_ms"] == pytest.approx(1e3 * row["seconds"] / 60)
    assert result["ratio"] == {"per_expression": peer["cpu_seconds"] / rows[2]["cpu_seconds"]}
