"""Several processes are one: the same curve from the same global batch, whatever is sharded and whoever has no work."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy

from lightning_modules.parallelism import Parallelism
from lightning_modules.policy.losses import PolicyLoss
from models.reasoners import LoRA
from tests.lightning_modules.ranks import Case, Outcome, train, train_on_ranks, write_model

pytestmark = pytest.mark.slow

#: a rank without samples at three steps, no rank with any at one
WORKLESS = {"idle": (2, 5, 6), "empty": (8,)}
CASES = {
    "sft": Case("sft", **WORKLESS),
    "grpo": Case("grpo", **WORKLESS, options={"loss": PolicyLoss("grpo", beta=0.05), "num_iterations": 2}),
}
SHARDED = ["ddp", "zero2", "zero3", "fsdp"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def one_process(folder) -> dict[str, Outcome]:
    return {name: train(case, folder) for name, case in CASES.items()}


def expect_equal(ranks: list[Outcome], expected: Outcome, bound: float = 1e-5) -> None:
    for rank in ranks:
        assert len(rank.curve) == len(expected.curve)
        for step, (got, wanted) in enumerate(zip(rank.curve, expected.curve, strict=True)):
            assert got.keys() == wanted.keys(), step
            for name, value in wanted.items():
                # the gradient's norm adds up tens of thousands of numbers; everything else is a mean
                assert got[name] == pytest.approx(value, abs=bound, rel=1e-4, nan_ok=True), (step, name)
            assert abs(got["loss"] - wanted["loss"]) <= bound, step
        for step, weights in expected.weights.items():
            for name, weight in weights.items():
                assert (rank.weights[step][name] - weight).abs().max() <= bound, (step, name)


@pytest.mark.parametrize("strategy", SHARDED)
@pytest.mark.parametrize("stage", CASES)
def test_two_processes_draw_the_curve_of_one(folder, one_process, stage, strategy):
    """In micro-batches of three, where the one process takes whole batches."""
    case = replace(CASES[stage], strategy=strategy)
    case.options = case.options | {"micro_batch_size": 3}
    ranks = train_on_ranks(case, folder)
    expected = one_process[stage]
    expect_equal(ranks, expected)
    losses = [numbers["loss"] for numbers in expected.curve]
    assert len(set(losses)) == len(losses) == 20  # nothing is compared with itself
    if stage == "grpo":
        lengths = {numbers["completions/mean_length"] for numbers in expected.curve}
        assert len(lengths) > 5
        assert max(numbers["kl"] for numbers in expected.curve) > 1e-3


@pytest.mark.parametrize("strategy", ["zero2", "zero3", "zero3_offload", "fsdp"])
def test_adapters_are_trained_in_shards(folder, strategy):
    case = Case("grpo", steps=3, idle=(1,), reasoner={"lora": LoRA(r=2), "gradient_checkpointing": True})
    case.options = {"loss": PolicyLoss("dapo", beta=0.05), "micro_batch_size": 3}
    expect_equal(train_on_ranks(replace(case, strategy=strategy), folder), train(case, folder))


@pytest.mark.parametrize("strategy", [None, *SHARDED])
def test_what_is_no_number_moves_nothing_on_any_rank(folder, strategy):
    poison = {1: "loss", 3: "gradient", 5: "reward", 7: "logits"}
    case = Case("grpo", strategy, steps=9, poison=poison, options={"micro_batch_size": 3})
    for rank in train_on_ranks(case, folder) if strategy else [train(case, folder)]:
        assert rank.weights.keys() == set(range(9))
        for step in range(1, 9):
            before, after = rank.weights[step - 1], rank.weights[step]
            unchanged = [torch.equal(weight, before[name]) for name, weight in after.items()]
            assert all(unchanged) == (step in poison), step
        assert [numbers["skipped_steps"] for numbers in rank.curve] == [0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert [math.isfinite(numbers["grad_norm"]) for numbers in rank.curve] == [s not in poison for s in range(9)]


@pytest.mark.parametrize("strategy", SHARDED)
def test_a_run_of_nothing_but_such_steps_ends_on_every_rank(folder, tmp_path, strategy):
    case = Case("sft", strategy, steps=6, poison=dict.fromkeys(range(1, 6), "loss"), options={"max_skipped_steps": 3})
    case.trainer = {"default_root_dir": tmp_path}
    for number, rank in enumerate(train_on_ranks(case, folder)):
        assert "3 steps in a row" in rank.error
        saved = json.loads((tmp_path / f"skipped_batch_rank{number}.json").read_text())
        assert [row["sample"] for row in saved] == [f"v3-{number}/0", f"v3-{number + 2}/0"]


def test_strategies_that_would_train_wrongly_are_refused():
    pytest.importorskip("deepspeed")
    with pytest.raises(ValueError, match="neither adds up the gradients"):
        Parallelism.of(DeepSpeedStrategy(stage=2))
    assert type(Parallelism.of(Trainer(accelerator="cpu", logger=False).strategy)) is Parallelism
