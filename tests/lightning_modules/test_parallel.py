"""Several processes are one: the same curve from the same global batch, whatever is sharded and whoever has no work."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy
from transformers import AutoModelForImageTextToText

from lightning_modules.export import export
from lightning_modules.parallelism import Parallelism
from lightning_modules.policy.losses import PolicyLoss
from models.reasoners import LoRA
from tests.lightning_modules.ranks import Case, Outcome, build_module, train, train_on_ranks, write_model

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


@pytest.mark.parametrize("strategy", ["ddp", "zero3", "fsdp"])
def test_features_on_disk_are_those_of_whole_weights(folder, tmp_path, strategy):
    """A rank that finds them, or has no samples, does not call the tower: nobody waits for it to."""
    case = Case("grpo", steps=3, idle=(1,), reasoner={"freeze_vision": True})
    case.options = {"loss": PolicyLoss("dapo", beta=0.05), "micro_batch_size": 3, "num_iterations": 2}
    expected = train(case, folder)
    case.reasoner = case.reasoner | {"vision_cache": tmp_path}
    for _ in range(2):
        expect_equal(train_on_ranks(replace(case, strategy=strategy), folder), expected)
    assert len(list(tmp_path.iterdir())) == 1  # one tower
    assert list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("strategy", "precision"),
    [*((strategy, "32-true") for strategy in (None, *SHARDED)), ("zero2", "bf16-mixed"), ("zero3", "bf16-mixed")],
)
def test_what_is_no_number_moves_nothing_on_any_rank(folder, strategy, precision):
    poison = {1: "loss", 3: "gradient", 5: "reward", 7: "logits"}
    case = Case("grpo", strategy, steps=9, poison=poison, options={"micro_batch_size": 3}, precision=precision)
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


class Gathers(Callback):
    """Counts what ZeRO-3 gathers during each rollout and each pass with gradient."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.counts = {"whole": 0, "layer": 0, "whole inside": 0, "layer inside": 0}

    def on_train_start(self, trainer, pl_module):
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters
        from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

        self.count(GatheredParameters, "__enter__", "whole", pl_module.reasoner)
        self.count(PartitionedParameterCoordinator, "fetch_sub_module", "layer", pl_module.reasoner)

    def count(self, owner, method, name, reasoner):
        original = getattr(owner, method)

        def counted(instance, *args, **kwargs):
            inside = getattr(reasoner, "generating", False)
            self.counts[f"{name} inside" if inside else name] += 1
            return original(instance, *args, **kwargs)

        setattr(owner, method, counted)

    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            self.file.write_text(json.dumps(self.counts))


def test_weights_are_gathered_once_for_a_rollout_batch(folder, tmp_path):
    case = Case("grpo", "zero3", steps=3, options={"loss": PolicyLoss("grpo", beta=0.05), "num_iterations": 2})
    case.trainer = {"callbacks": [Gathers(tmp_path / "counts.json")]}
    train_on_ranks(case, folder)
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["whole"] == 3 + 1  # one a batch, and the one by which the test looks at the weights
    assert counts["whole inside"] == counts["layer inside"] == 0  # answers have twelve tokens, prompts a reference
    assert counts["layer"] > 100  # the passes with gradient


def logits(model: Any) -> torch.Tensor:
    """What a transformers model makes of some tokens."""
    tokens = torch.arange(5, 40)[None]
    return model(input_ids=tokens, mm_token_type_ids=torch.zeros_like(tokens)).logits


@pytest.mark.parametrize("lora", [None, LoRA(r=2)], ids=["full", "lora"])
@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3", "fsdp", "fsdp_shards"])
def test_a_checkpoint_is_exported_and_gone_on_from(folder, tmp_path, strategy, lora):
    """Two steps and a checkpoint, two more; then two more from the checkpoint, and the export of the checkpoint."""
    case = Case("grpo", strategy, steps=4, save=str(tmp_path / "step-2.ckpt"), reasoner={"lora": lora})
    case.options = {"loss": PolicyLoss("grpo", beta=0.05), "micro_batch_size": 3}
    whole, _ = train_on_ranks(case, folder)
    rest, _ = train_on_ranks(replace(case, save=None, checkpoint=case.save), folder)
    assert len(rest.curve) == 2
    assert rest.curve == whole.curve[2:]
    assert all(torch.equal(weight, rest.weights[3][name]) for name, weight in whole.weights[3].items())

    config = tmp_path / "fit.yaml"
    reasoner = {"class_path": "QwenVL", "init_args": {"pretrained": str(folder), "dtype": "float32"}}
    reasoner["init_args"] |= {"lora": {"r": 2}} if lora else {}
    model = {"class_path": "GRPOModule", "init_args": {"reasoner": reasoner, "dialogue": {"class_path": "VeasonR1"}}}
    config.write_text(yaml.safe_dump({"model": model}))
    export(Path(case.save), tmp_path / "hf", config, trust_shards=True)
    exported = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")
    trained = build_module(case, folder).reasoner
    trained.configure()
    missing, unexpected = trained.load_state_dict(whole.weights[1], strict=False)
    assert not unexpected
    assert all(name.endswith("lm_head.weight") for name in missing)  # tied
    with torch.no_grad():
        wanted, got = logits(trained.model), logits(exported)
    if lora:
        assert (got - wanted).abs().max() <= 1e-6 * wanted.abs().max()
    else:
        assert torch.equal(got, wanted)


def test_strategies_that_would_train_wrongly_are_refused():
    with pytest.raises(ValueError, match="neither adds up the gradients"):
        Parallelism.of(DeepSpeedStrategy(stage=2))
    assert type(Parallelism.of(Trainer(accelerator="cpu", logger=False).strategy)) is Parallelism
