"""Signals to real processes: a checkpoint, a place in the queue, a clear status, and the same end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_modules.preemption import job_name
from tests.lightning_modules.interruptions import ROOT, differ, last_of, run, words, write_callbacks, write_toy

STEPS = ("--trainer.max_epochs", "-1", "--trainer.max_steps", "7")
VALIDATE = ("--trainer.val_check_interval", "3", "--trainer.check_val_every_n_epoch", "null")
TWICE = ("--model.num_generations", "2", "--model.num_iterations", "2")
AGAIN = ("--ckpt_path", "last")
TRY_AGAIN = 75
JOB = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy benchmark and a random reasoner."""
    return write_toy(tmp_path_factory.mktemp("toy"))


def cluster(folder: Path, status: int = 0) -> dict[str, str]:
    """The environment of a SLURM job whose `scontrol` writes down what it is asked."""
    tool = folder / "bin/scontrol"
    tool.parent.mkdir()
    answer = "exit 0" if status == 0 else f'echo "it is disabled" >&2; exit {status}'
    tool.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{answer}\n')
    tool.chmod(0o755)
    return JOB | {"PATH": f"{tool.parent}:{os.environ['PATH']}"}


def start(folder: Path, given: list[str], variables: dict[str, str]) -> subprocess.Popen:
    """Start the command as a shell does."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, str(ROOT / "thinkseg.py"), *given]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(file: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + 300
    while not file.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def forty(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The words of a run of forty steps, and its last checkpoint without an interruption."""
    folder = tmp_path_factory.mktemp("forty")
    plain = write_callbacks(folder / "plain.yaml")
    steps = ("--trainer.max_epochs", "-1", "--trainer.max_steps", "40", "--trainer.limit_val_batches", "0")
    given = words(toy, "sft.yaml", "run", plain, *steps, *AGAIN)
    assert run(folder, *given) == 0
    return given, last_of(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "slurm"), [(signal.SIGTERM, False), (signal.SIGUSR1, True)], ids=["no cluster", "slurm"]
)
def test_a_signal_from_outside(
    forty: tuple[list[str], Path], tmp_path: Path, number: signal.Signals, slurm: bool
) -> None:
    """It comes at some moment between the second step and the last."""
    given, whole = forty
    variables = cluster(tmp_path) if slurm else {}
    process = start(tmp_path, given, variables)
    wait_for(tmp_path / "run/checkpoints/step-00000002.ckpt", process)
    process.send_signal(number)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == TRY_AGAIN, shown
    stopped = last_of(tmp_path / "run")
    assert f"Stopped by {number.name}" in shown
    assert f"goes on from 'run/checkpoints/{stopped.name}'" in shown
    assert not (tmp_path / "run/hf").exists()
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    if slurm:
        assert (tmp_path / "asked").read_text() == "requeue 4711\n"

    assert run(tmp_path, *given, **variables) == 0
    assert stopped.name < last_of(tmp_path / "run").name
    assert differ(whole, last_of(tmp_path / "run")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "more", "interrupt", "saved"),
    [
        ("grpo.yaml", (*TWICE, *VALIDATE), {"step": 3}, 4),  # between the two steps of a batch: when both are taken
        ("sft.yaml", VALIDATE, {"step": 3, "validation": True}, 3),  # the weights of a validation are saved before it
        ("sft.yaml", VALIDATE, {"step": 2}, 3),  # in the batch before a validation: it is left to the next process
        ("sft.yaml", ("--trainer.val_check_interval", "7", *VALIDATE[2:]), {"step": 7, "validation": True}, 7),
    ],
    ids=["in a batch", "in a validation", "before a validation", "in the last validation"],
)
def test_the_next_safe_point(
    toy: Path, tmp_path: Path, config: str, more: tuple[str, ...], interrupt: dict, saved: int
) -> None:
    plain = write_callbacks(tmp_path / "plain.yaml")
    given = [*STEPS, *more, *AGAIN]
    assert run(tmp_path, *words(toy, config, "run", plain, *given)) == 0
    whole = (tmp_path / "run").rename(tmp_path / "whole")
    stopping = write_callbacks(tmp_path / "stopping.yaml", number="SIGUSR1", **interrupt)
    assert run(tmp_path, *words(toy, config, "run", stopping, *given), **cluster(tmp_path)) == TRY_AGAIN
    assert last_of(tmp_path / "run").name == f"step-{saved:08d}.ckpt"
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    assert run(tmp_path, *words(toy, config, "run", plain, *given)) == 0
    assert differ(last_of(whole), last_of(tmp_path / "run")) == []
    assert differ(whole / "checkpoints/best.ckpt", tmp_path / "run/checkpoints/best.ckpt") == []


@pytest.mark.slow
def test_a_refused_place_in_the_queue_is_an_error_in_the_log(
    toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stopping = write_callbacks(tmp_path / "stopping.yaml", number="SIGTERM", step=2)
    given = words(toy, "sft.yaml", "run", stopping, *STEPS)
    assert run(tmp_path, *given, **cluster(tmp_path, status=1)) == TRY_AGAIN
    assert "Job 4711 was not requeued: it is disabled. Submit it again" in capfd.readouterr().err
    assert last_of(tmp_path / "run").name == "step-00000003.ckpt"


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_both(toy: Path, tmp_path: Path) -> None:
    """Two processes over gloo; the second is told, after the first of three steps."""
    ranks = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_epochs", "-1")
    steps = (*ranks, "--trainer.max_steps", "3", *VALIDATE, *AGAIN)
    plain = write_callbacks(tmp_path / "plain.yaml")
    stopping = write_callbacks(tmp_path / "stopping.yaml", number="SIGTERM", step=1, rank=1)
    statuses = []
    for callbacks, folder in ((plain, "run"), (stopping, "run"), (plain, "run")):
        process = start(tmp_path, words(toy, "sft.yaml", folder, callbacks, *steps), {})
        _, shown = process.communicate(timeout=240)
        statuses.append(process.returncode)
        assert process.returncode in (0, TRY_AGAIN), shown
        if len(statuses) == 1:
            (tmp_path / "run").rename(tmp_path / "whole")
        elif len(statuses) == 2:
            assert "Stopped by a signal to another rank at step 2" in shown
            assert last_of(tmp_path / "run").name == "step-00000002.ckpt"
    assert statuses == [0, TRY_AGAIN, 0]
    assert differ(last_of(tmp_path / "whole"), last_of(tmp_path / "run")) == []


def test_how_a_job_is_called() -> None:
    assert job_name({"SLURM_JOB_ID": "12"}) == "12"
    assert job_name({"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "1"}) == "11_1"
    for wrong in ({}, {"SLURM_JOB_ID": "1; rm"}, {"SLURM_ARRAY_JOB_ID": "1"}):
        with pytest.raises(ValueError, match="Expected `SLURM_JOB_ID` to be a number"):
            job_name(wrong)
