"""A short run of ``benchmarks/data_index.py``: its dataset is a ReVOS, and its rows say what they claim."""

import json

import pytest

from benchmarks.data_index import main
from datamodules import ReVOS
from datamodules.masks import decode_rle


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    words = ["json_per_worker", "--folder", str(folder / "revos"), "--json", str(folder / "result.json")]
    main([*words, "--expressions", "50", "--megabytes", "20", "--workers", "2", "--tracks", "3"])
    return folder


def test_result(run):
    result = json.loads((run / "result.json").read_text())
    assert set(result) == {"name", "setting", "ratio", "rows"}
    rows = result["rows"]
    assert [(row["what"], row["reader"], row.get("workers")) for row in rows] == [
        ("first open", "index", None),
        ("open", "index", None),
        ("open", "json_per_worker", None),
        ("read", "nothing", 0),
        ("read", "nothing", 2),
        ("read", "index", 0),
        ("read", "index", 2),
        ("read", "json_per_worker", 0),
        ("read", "json_per_worker", 2),
    ]
    _, index, parsed, _, _, _, ours, _, peer = rows
    assert index["entries"] == parsed["entries"] == 18
    assert index["added_mb"] < 20 < parsed["added_mb"]  # the size of the file
    assert result["ratio"] == {"json_per_worker": peer["memory_mb"] / ours["memory_mb"]}
    assert peer["memory_mb"] - ours["memory_mb"] > 40  # each of two workers holds it


def test_dataset(run):
    size = (run / "revos" / "mask_dict.json").stat().st_size
    assert 20e6 <= size < 22e6
    dataset = ReVOS(run / "revos")
    assert len(dataset) == 50
    video = dataset.index[34]
    assert video.expression_id == "0"
    track = dataset.track(dataset.masks_path, video.annotation[0], video)
    assert len(track) == len(video.frame_names)
    assert 0 < sum(cell is None for cell in track) < len(track) / 3
    masks = [decode_rle(cell) for cell in track[:20] if cell is not None]
    assert {mask.shape for mask in masks} == {(720, 1280)}
    assert all(0 < mask.sum() < 720 * 1280 for mask in masks)
