"""A short run of ``benchmarks/grpo_step.py``: everyone writes as much, segments the same, and says where time went."""

import json

import pytest

from benchmarks import grpo_step
from benchmarks.random_models import small_sam2
from benchmarks.setting import Setting
from benchmarks.steps import PHASES, AnyText, expect_equal_masks
from models.segmenters import StillSegmenter
from tests.benchmarks.test_grpo_update import SMALL, WORDS


@pytest.mark.slow
def test_result(tmp_path):
    grpo_step.main(["trl", *WORDS, "--rounds", "1", "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) == {"name", "setting", "ratio", "rows"}
    ours, trl = result["rows"]
    assert result["ratio"] == {"trl": trl["step"] / ours["step"]}
    for row in (ours, trl):
        assert row["other"] >= 0
        assert row["step"] == pytest.approx(sum(row[phase] for phase in PHASES) + row["other"])
        assert all(row[phase] > 0 for phase in ("rollout", "segment", "update"))


def test_other_masks_are_found():
    assert expect_equal_masks(SMALL, small_sam2()) < 1e-4
    with pytest.raises(ValueError, match="Expected masks of something"):
        expect_equal_masks(SMALL, StillSegmenter())


def test_answers_of_another_length_are_found():
    class Short:
        mean_length = 5

        def step(self):
            return {}

    with pytest.raises(ValueError, match="Expected answers of 6 tokens from ours, but got 5"):
        grpo_step.measure({"ours": Short()}, 6, 1)


def test_any_text_is_an_answer():
    setting = Setting(frames=4, side=56)
    chat = setting.chat(setting.sample())
    answers = [AnyText(setting).read(text, chat) for text in ("", "a", "b", "\ud800", "\x00" * 100)]
    assert len({(answer.keyframe, *answer.boxes[0].tolist()) for answer in answers}) == 5
    for answer in answers:
        assert answer.keyframe in range(4)
        x1, y1, x2, y2 = answer.boxes[0].tolist()
        assert 0 <= x1 < x2 <= 56
        assert 0 <= y1 < y2 <= 56
        assert (x2 - x1, y2 - y1) == (28, 28)
