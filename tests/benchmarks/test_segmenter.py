"""A short run of ``benchmarks/segmenter.py``: all give the same masks, and its rows say what they claim."""

import json

import pytest
import torch
import yaml

from benchmarks import segmenter
from models.segmenters import SAM2Segmenter
from tests.models.test_sam2 import CONFIG


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    config = yaml.safe_load(CONFIG.read_text())["init_args"]["config"]
    monkeypatch.setitem(segmenter.NETWORKS, "small", config | {"initializer_range": 0.06})


def test_result(tmp_path):
    path = tmp_path / "result.json"
    sizes = ["--prompts", "2", "--frames", "2", "3", "--sweep_prompts", "1", "3", "--sweep_frames", "1", "2"]
    segmenter.main([*sizes, "--rounds", "1", "--json", str(path)])
    result = json.loads(path.read_text())
    assert set(result) == {"name", "setting", "ratio", "rows"}
    assert [(row["what"], row.get("prompts"), row.get("frames")) for row in result["rows"]] == [
        ("group", 2, 2),
        ("group", 2, 3),
        ("over prompts", 1, 2),
        ("over prompts", 3, 2),
        ("line", None, None),
        ("over frames", 2, 1),
        ("over frames", 2, 2),
        ("line", None, None),
    ]
    groups = result["rows"][:2]
    for row in groups:
        assert row["encoded_frames"] == row["frames"]
        assert row["per_prompt_encoded_frames"] == row["prompts"] * row["frames"]
        assert row["per_prompt_ratio"] == row["per_prompt_s"] / row["ours_s"]
        assert row["difference"] < 1e-4
    assert result["ratio"] == {"per_prompt": min(row["per_prompt_ratio"] for row in groups)}


def test_both_give_masks_of_the_same_form():
    ours = segmenter.build("small", "cpu", "float32")
    frames, prompts = segmenter.video_of(3), segmenter.prompts_of(2, 3)
    for mine, theirs in zip(
        ours(frames, prompts, range(3)), segmenter.masks_per_prompt(ours, frames, prompts), strict=True
    ):
        assert mine.shape == theirs.shape
        assert (mine == theirs).float().mean() > 0.999


def test_other_masks_are_no_result(monkeypatch):
    ours = segmenter.build("small", "cpu", "float32")
    tracked = segmenter.per_prompt(ours, segmenter.video_of(2), segmenter.prompts_of(2, 2))
    wrong = [{time: logits + 0.1 for time, logits in each.items()} for each in tracked]
    monkeypatch.setattr(segmenter, "per_prompt", lambda *arguments: wrong)
    with pytest.raises(ValueError, match="Expected the logits of sessions up to"):
        segmenter.measure(ours, 2, 2, 1, 1e-4)


def test_a_frame_encoded_twice_is_no_result(monkeypatch):
    ours = segmenter.build("small", "cpu", "float32")
    encode = SAM2Segmenter.encode
    monkeypatch.setattr(SAM2Segmenter, "encode", lambda self, frames: (encode(self, frames), encode(self, frames))[1])
    with pytest.raises(ValueError, match="Expected ours to encode 2 frames for 2 prompts, but got 4"):
        segmenter.measure(ours, 2, 2, 1, None)


def test_line():
    rows = [{"prompts": count, "ours_s": 3 + 0.5 * count} for count in (1, 2, 4)]
    assert segmenter.line(rows, "prompts") == {
        "line_over": "prompts",
        "start_s": pytest.approx(3),
        "slope_s": pytest.approx(0.5),
        "r2": pytest.approx(1),
    }


def test_hiera_large_is_what_it_is_called():
    large = SAM2Segmenter(config=segmenter.NETWORKS["hiera_large"])
    with torch.device("meta"):
        model = large._build()
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(224.4e6, rel=0.01)
