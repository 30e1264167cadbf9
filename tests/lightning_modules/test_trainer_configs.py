"""Every trainer configuration for several GPUs runs both stages of training, on two CPUs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import thinkseg
from lightning_modules.weights import read_weights
from tests.lightning_modules.ranks import run_on_ranks, write_model

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / "configs"
TRAINERS = ["ddp", "fsdp", "deepspeed_zero2", "deepspeed_zero3", "deepspeed_zero3_offload"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder with a toy benchmark and a random reasoner."""
    folder = tmp_path_factory.mktemp("toy")
    thinkseg.main(
        ["data", "shapes", "--root", str(folder / "shapes"), "--videos", "4", "--valid_videos", "3", "--preset", "easy"]
    )
    write_model(folder / "hf")
    return folder


def evaluation(trainer: str, toy: Path, run: Path, devices: int = 2) -> list[str]:
    """The command line of a test under one trainer configuration, of three videos."""
    small = {
        "--trainer.accelerator": "cpu",
        "--trainer.devices": str(devices),
        "--trainer.precision": "32-true",
        "--trainer.default_root_dir": str(run),
        "--trainer.enable_progress_bar": "false",
        "--model.reasoner.pretrained": str(toy / "hf"),
        "--model.reasoner.dtype": "float32",
        "--model.dialogue.size": "112",
        "--model.segmenter": "StillSegmenter",
        "--model.max_completion_length": "8",
        "--data.num_workers": "0",
        "--data.test.root": str(toy / "shapes"),
    }
    files = ["-c", str(CONFIGS / "trainer" / f"{trainer}.yaml"), "-c", str(CONFIGS / "veason_r1" / "eval.yaml")]
    return ["test", *files, *(word for pair in small.items() for word in pair)]


def words(stage: str, trainer: str, toy: Path, run: Path, steps: int = 2) -> list[str]:
    """The command line of one stage of Veason-R1 under one trainer configuration, small enough for a CPU."""
    dataset = "--data.train.dataset.root" if stage == "sft" else "--data.train.root"
    small = {
        "--trainer.accelerator": "cpu",
        "--trainer.devices": "2",
        "--trainer.default_root_dir": str(run),
        "--trainer.max_steps": str(steps),
        "--trainer.val_check_interval": "2",
        "--trainer.limit_val_batches": "1",
        "--trainer.num_sanity_val_steps": "0",
        "--trainer.enable_progress_bar": "false",
        "--model.reasoner.pretrained": str(toy / "hf"),
        "--model.dialogue.size": "112",
        "--model.segmenter": "StillSegmenter",
        "--model.max_completion_length": "8",
        "--model.micro_batch_size": "3",
        "--data.batch_size": "1",
        "--data.num_workers": "0",
        "--data.val.root": str(toy / "shapes"),
        dataset: str(toy / "shapes"),
    }
    files = ["-c", str(CONFIGS / "trainer" / f"{trainer}.yaml"), "-c", str(CONFIGS / "veason_r1" / f"{stage}.yaml")]
    return ["fit", *files, *(word for pair in small.items() for word in pair)]


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_runs(toy, tmp_path, trainer, stage):
    run_on_ranks(thinkseg.main, words(stage, trainer, toy, tmp_path))
    assert json.loads((tmp_path / "validation.json").read_text())["overall"]
    exported = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")
    before = load_file(toy / "hf" / "model.safetensors")
    after = exported.state_dict()
    assert all(after[name].shape == weight.shape for name, weight in before.items())
    assert any(not torch.equal(weight, after[name].to(weight)) for name, weight in before.items())


@pytest.mark.parametrize("trainer", TRAINERS)
def test_goes_on(toy, tmp_path, trainer):
    """Two steps and two more are four, by ``--ckpt_path last``, across an epoch's end."""
    last = ["--ckpt_path", "last"]
    if "deepspeed" in trainer:
        last += ["--trainer.strategy.trust_shards", "true"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_on_ranks(thinkseg.main, words("grpo", trainer, toy, whole, 4))
    for steps in (2, 4):
        run_on_ranks(thinkseg.main, [*words("grpo", trainer, toy, parts, steps), *last])
    names = sorted(path.name for path in (parts / "checkpoints").iterdir())
    assert names == ["best.ckpt", "step-00000002.ckpt", "step-00000004.ckpt"]
    ends = [read_weights(run / "checkpoints" / names[-1], trust_shards=True) for run in (whole, parts)]
    assert ends[0].step == ends[1].step == 4
    assert ends[0].state.keys() == ends[1].state.keys()
    for name, value in ends[0].state.items():
        assert torch.equal(ends[1].state[name], value), name


@pytest.mark.parametrize("trainer", TRAINERS)
def test_measures_what_one_process_does(toy, tmp_path, trainer):
    """To the last digit, although an odd number of samples makes two ranks repeat one."""
    thinkseg.main(evaluation("one_gpu", toy, tmp_path / "one", devices=1))
    run_on_ranks(thinkseg.main, evaluation(trainer, toy, tmp_path / "two"))
    one, two = ((tmp_path / run / "test.json").read_text() for run in ("one", "two"))
    assert one == two
    assert json.loads(one)["overall"]["J"] > 0
