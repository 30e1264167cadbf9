"""A short run of ``benchmarks/grpo_update.py``: everyone's gradients are equal, or it says so; its rows add up."""

import json

import pytest
import torch

from benchmarks import grpo_update
from benchmarks.flops import update_flops
from benchmarks.random_models import save_mid_size, shape_of_3b
from benchmarks.setting import Setting, lengths
from benchmarks.updates import Ours, contestants, expect_equal
from models.reasoners import scratch

SMALL = Setting(frames=2, side=56, group_size=3, length=6, hidden_size=64, num_layers=2)
WORDS = [word for name in ("frames", "side", "group_size", "length", "hidden_size", "num_layers")
         for word in (f"--{name}", str(getattr(SMALL, name)))]  # fmt: skip
#: Tokens of the prompt beside its frames.
TEXT = 31


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_mid_size(folder, 64, 2, 56)
    return folder


def gradients_of(call):
    return call(), call.model


@pytest.mark.slow
def test_result(tmp_path, monkeypatch):
    monkeypatch.setattr(grpo_update, "SWEEPS", {"cpu": {"length": (3, 6, 12)}})
    monkeypatch.setattr(grpo_update, "peak_memory", lambda build, device: 1.0)
    words = [*WORDS, "--rounds", "1", "--sweep_rounds", "1", "--json", str(tmp_path / "result.json")]
    grpo_update.main(words)
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) == {"name", "setting", "ratio", "rows"}
    rows = {row["what"]: row for row in result["rows"][:5]}
    assert result["ratio"] == {peer: rows[peer]["seconds"] / rows["ours"]["seconds"] for peer in ("plain", "trl")}
    prompt = result["rows"][5]["prompt"]
    assert prompt == 2 * ((56 // 28) ** 2 + 2) + TEXT  # two mark where a frame begins and ends
    assert rows["ours"]["tokens"] == prompt + 4 + 6 + 8
    assert rows["plain"]["tokens"] == rows["trl_micro_batch_1"]["tokens"] == 3 * prompt + 4 + 6 + 8
    assert rows["trl"]["tokens"] == 3 * (prompt + 8)
    assert all(0 <= row["difference"] < 1e-4 for row in rows.values())
    *points, line = result["rows"][5:]
    assert [point["length"] for point in points] == [3, 6, 12]
    assert [point["token_bound"] for point in points] == [3 * (prompt + n) / (prompt + 3 * n) for n in (3, 6, 12)]
    assert line["what"] == "line over length"


def test_a_wrong_contestant_is_found(folder):
    ours = Ours(SMALL, folder)
    calls = {name: build(folder) for name, build in contestants(SMALL, ["trl", "plain"]).items()}
    for name, call in calls.items():
        assert expect_equal(name, gradients_of(ours), gradients_of(call), "cpu") < 1e-4
    calls["trl"].parts[0]["advantages"] *= 1.001
    with pytest.raises(ValueError, match="Expected loss and gradients of trl"):
        expect_equal("trl", gradients_of(ours), gradients_of(calls["trl"]), "cpu")
    calls["plain"].episodes[0].last.completion.token_ids[0] ^= 1
    with pytest.raises(ValueError, match="Expected loss and gradients of plain"):
        expect_equal("plain", gradients_of(ours), gradients_of(calls["plain"]), "cpu")


def test_lengths_have_the_mean_and_spread():
    assert lengths(1, 200) == [200]
    for size in (2, 8, 16):
        spread = lengths(size, 200)
        assert sum(spread) == pytest.approx(200 * size, abs=size / 2)
        assert (spread[0], spread[-1]) == (133, 267)


def test_flops_by_hand(folder):
    """Forward and backward: 6 operations per weight and token, 12 per channel and pair in attention."""
    model = Ours(SMALL, folder).model
    language = sum(weight.numel() for weight in model.model.language_model.layers.parameters())
    head = model.lm_head.weight.numel()
    channels, layers = 64, 2
    assert update_flops(model, 10, [1], [], True) == pytest.approx(
        6 * language * 11 + 6 * head + 12 * channels * layers * (10 * 11 / 2 + 10 + 1)
    )
    shared = update_flops(model, 10, [1, 1], [[1, 4, 4]], True)
    repeated = update_flops(model, 10, [1, 1], [[1, 4, 4]], False)
    vision = repeated - shared - 6 * language * 10 - 12 * channels * layers * (10 * 11 / 2)
    tower = model.model.visual
    blocks = sum(weight.numel() for part in (tower.patch_embed, tower.blocks) for weight in part.parameters())
    merger = sum(weight.numel() for weight in tower.merger.parameters())
    assert vision == pytest.approx(6 * blocks * 16 + 6 * merger * 4 + 12 * 64 * 16 * 16)


def test_the_full_size_is_that_of_qwen2_5_vl_3b():
    import transformers

    small, _ = scratch.build(scratch.ScratchConfig("qwen2_5_vl"))
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(shape_of_3b(small.config), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    # the published checkpoint: 3,754,622,976 parameters, 668,7 million of them in the tower
    assert sum(weight.numel() for weight in model.parameters()) == 3_754_622_976
    assert model.config.image_token_id == small.config.image_token_id
