"""A run that is killed goes on as if it had not been: the same bits in the end."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.lightning_modules.interruptions import differ, last_of, load, run, words, write_callbacks, write_toy

VALIDATE = ("--trainer.val_check_interval", "3", "--trainer.check_val_every_n_epoch", "null")
STEPS = ("--trainer.max_epochs", "-1", "--trainer.max_steps", "7", *VALIDATE)
LORA = ("--model.reasoner.lora", "{r: 2, alpha: 4}")
FULL = ("-c", "full.yaml")
TWICE = ("--model.num_generations", "2", "--model.num_iterations", "2", "--model.loss.beta", "0.1")
ONCE = ("--model.num_generations", "2", "--model.loss.beta", "0.1")
#: name -> configuration, words, and when each attempt is killed: before the optimiser step after `step`, or in the
#: validation after it. An epoch of SFT has 4 steps, one of GRPO 5; a checkpoint comes every other step.
CASES = {
    "sft, full": ("sft.yaml", (*STEPS, *FULL), [{"step": 5}]),
    "sft, lora, at the end of an epoch": ("sft.yaml", (*STEPS, *LORA), [{"step": 4}, {"step": 5}]),
    "sft, in validations": (
        "sft.yaml",
        ("--trainer.max_epochs", "2", "--model.optimizer.decay_steps", "0", *LORA),
        [{"step": 4, "validation": True}, {"step": 8, "validation": True}],
    ),
    "grpo, full, between the steps of a batch": ("grpo.yaml", (*STEPS, *TWICE, *FULL), [{"step": 3}, {"step": 5}]),
    "grpo, lora": ("grpo.yaml", (*STEPS, *ONCE, *LORA), [{"step": 4}]),
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy benchmark and a random reasoner."""
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def full(tmp_path: Path) -> None:
    """An overlay without adapters."""
    (tmp_path / "full.yaml").write_text("model: {init_args: {reasoner: {init_args: {lora: null}}}}")


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    """The points of a curve, those that were logged again once."""
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    (name,) = [name for name in events.Tags()["scalars"] if name in (tag, f"{tag}/pg1")]
    return sorted({(event.step, event.value) for event in events.Scalars(name)})


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_is_uninterrupted(toy: Path, tmp_path: Path, case: str) -> None:
    config, given, kills = CASES[case]
    plain = write_callbacks(tmp_path / "plain.yaml")
    assert run(tmp_path, *words(toy, config, "run", plain, *given)) == 0
    whole = (tmp_path / "run").rename(tmp_path / "whole")
    for kill in kills:
        killing = write_callbacks(tmp_path / "killing.yaml", **kill)
        assert run(tmp_path, *words(toy, config, "run", killing, *given, "--ckpt_path", "last")) == -9
    assert run(tmp_path, *words(toy, config, "run", plain, *given, "--ckpt_path", "last")) == 0

    expected, got = last_of(whole), tmp_path / "run/checkpoints" / last_of(whole).name
    assert differ(expected, got) == []
    assert differ(whole / "checkpoints/best.ckpt", tmp_path / "run/checkpoints/best.ckpt") == []
    # the comparison can fail
    assert len(load(got)["callbacks"]["Dice"]["drawn"]) >= 4
    weights = [load(file)["state_dict"] for file in (whole / "checkpoints/best.ckpt", got)]
    assert any(not torch.equal(weights[0][name], weight) for name, weight in weights[1].items())
    for tag in ("loss", "val_score", "lr-AdamW"):
        assert curve(tmp_path / "run", tag) == curve(whole, tag)


@pytest.mark.slow
def test_a_truncated_checkpoint_is_passed_over(toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    callbacks = write_callbacks(tmp_path / "callbacks.yaml")
    given = words(toy, "sft.yaml", "run", callbacks, *STEPS, *LORA)
    assert run(tmp_path, *given) == 0
    newest = last_of(tmp_path / "run")
    expected = Path(shutil.copy(newest, tmp_path / "expected.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    capfd.readouterr()
    assert run(tmp_path, *given, "--ckpt_path", "last") == 0
    shown = capfd.readouterr().err
    assert (
        "Checkpoint 'run/checkpoints/step-00000007.ckpt' is cut short; the one before it is used: "
        "'run/checkpoints/step-00000006.ckpt'" in shown
    )
    assert differ(expected, newest) == []
    assert (tmp_path / "run/checkpoints.1" / newest.name).exists()


@pytest.mark.slow
def test_a_fresh_start_leaves_an_earlier_run_alone(toy: Path, tmp_path: Path) -> None:
    given = words(toy, "sft.yaml", "run", write_callbacks(tmp_path / "callbacks.yaml"), *STEPS, *LORA)
    assert run(tmp_path, *given) == 0
    earlier = {path.name: path.read_bytes() for path in (tmp_path / "run/checkpoints").iterdir()}
    assert earlier.keys() == {"best.ckpt", "step-00000006.ckpt", "step-00000007.ckpt"}
    assert run(tmp_path, *given, "--trainer.max_steps", "2") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "run/checkpoints.1").iterdir()} == earlier
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"step-00000002.ckpt"}


@pytest.mark.slow
def test_the_reference_of_a_resumed_run_is_the_initial_policy(toy: Path, tmp_path: Path) -> None:
    """The divergence from the reference is 0 at the first step of a run only, and a resume is not a first step."""
    given = words(toy, "grpo.yaml", "run", write_callbacks(tmp_path / "callbacks.yaml"), *STEPS, *ONCE, *FULL)
    assert run(tmp_path, *given, "--trainer.max_steps", "2") == 0
    shutil.copytree(tmp_path / "run", tmp_path / "resumed")
    assert run(tmp_path, *given, "--ckpt_path", "last", "--trainer.default_root_dir", "resumed") == 0
    divergence = dict(curve(tmp_path / "resumed", "kl"))
    assert divergence[0] == 0
    assert min(value for step, value in divergence.items() if step >= 2) > 0


def test_the_callbacks_of_the_tests_are_those_of_the_project(tmp_path: Path) -> None:
    names = [callback["class_path"] for callback in yaml.safe_load(write_callbacks(tmp_path / "file").read_text())]
    assert names.index("ModelCheckpoint") < names.index("RecentCheckpoint") < names.index("HFExport")
