"""A short run of ``benchmarks/rollout.py``: everyone writes the same tokens, or it says so."""

import json

import pytest
import torch

from benchmarks import rollout
from benchmarks.random_models import save_mid_size
from benchmarks.rollout import Group, expect_equal
from benchmarks.setting import Setting
from tests.benchmarks.test_grpo_update import WORDS


def test_result(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "SWEEPS", {"group_size": (2,)})
    rollout.main([*WORDS, "--rounds", "1", "--sweep_rounds", "1", "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) == {"name", "setting", "ratio", "rows"}
    row, swept = result["rows"]
    assert result["ratio"] == {
        peer: row[f"{peer}_s"] / row["ours_s"] for peer in ("repeated_prompts", "num_return_sequences")
    }
    assert row["ours_tokens_per_s"] == 3 * 6 / row["ours_s"]
    assert swept["group_size"] == 2


def test_everyone_writes_the_same_tokens_and_never_ends(tmp_path):
    setting = Setting(frames=1, side=56, group_size=2, length=40, hidden_size=64, num_layers=2)
    save_mid_size(tmp_path, 64, 2, 56)
    group = Group(setting, tmp_path)
    answers = {name: getattr(group, name)() for name in ("ours", "repeated_prompts", "num_return_sequences")}
    assert {tokens.shape for tokens in answers.values()} == {(2, 40)}
    expect_equal(answers)
    answers["repeated_prompts"][1, 39] += 1
    with pytest.raises(ValueError, match="Expected the tokens of repeated_prompts to be ours"):
        expect_equal(answers)


def test_another_model_writes_other_tokens(tmp_path):
    """The tokens of random weights depend on them: that they are equal says something."""
    setting = Setting(frames=1, side=56, group_size=2, length=6, hidden_size=64, num_layers=2)
    save_mid_size(tmp_path, 64, 2, 56)
    group = Group(setting, tmp_path)
    with torch.no_grad():
        group.model.lm_head.weight.neg_()
    with pytest.raises(ValueError, match="Expected the tokens of repeated_prompts"):
        expect_equal({"ours": group.ours(), "repeated_prompts": group.repeated_prompts()})
