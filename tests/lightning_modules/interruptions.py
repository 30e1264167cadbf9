"""Runs of the command line that are interrupted: small ones, in processes of their own."""

import logging
import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback

import thinkseg

ROOT = Path(__file__).parent.parent.parent
CALLBACKS = ROOT / "configs/trainer/callbacks.yaml"


class Dice(Callback):
    """Draws from every global generator after each batch, and keeps what came, so that a checkpoint holds it."""

    def __init__(self):
        self.drawn = []

    def on_train_batch_end(self, *args):
        self.drawn.append([torch.rand(()).item(), random.random(), random.gauss(), np.random.rand(), np.random.randn()])

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state_dict):
        self.drawn = state_dict["drawn"]


class Interrupt(Callback):
    """Sends its process a signal: before the optimiser step after `step`, or in a validation batch after it."""

    def __init__(self, step: int, number: str = "SIGKILL", validation: bool = False, rank: int = 0):
        self.step = step
        self.number = signal.Signals[number]
        self.validation = validation
        self.rank = rank

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self._send(trainer, not self.validation)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._send(trainer, self.validation and batch_idx == 0)

    def _send(self, trainer, here):
        if here and trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)


def write_callbacks(file: Path, **interrupt) -> Path:
    """The project's callbacks with a checkpoint every other step, dice and, if arguments are given, an interruption."""
    callbacks = yaml.safe_load(CALLBACKS.read_text())
    for callback in callbacks:
        if callback["class_path"] == "RecentCheckpoint":
            callback["init_args"]["every_n_steps"] = 2
    callbacks.append({"class_path": f"{__name__}.Dice"})
    if interrupt:
        callbacks.append({"class_path": f"{__name__}.Interrupt", "init_args": interrupt})
    file.write_text(yaml.safe_dump(callbacks))
    return file


def words(toy: Path, config: str, run: str, callbacks: Path, *more: str) -> list[str]:
    """The command line of a stage of Veason-R1, small enough for a CPU."""
    data = "dataset.root" if config == "sft.yaml" else "root"
    small = {
        "--trainer.accelerator": "cpu",
        "--trainer.callbacks": str(callbacks),
        "--trainer.default_root_dir": run,
        "--trainer.limit_val_batches": "2",
        "--trainer.num_sanity_val_steps": "0",
        "--trainer.enable_progress_bar": "false",
        "--trainer.log_every_n_steps": "1",
        "--model.reasoner.pretrained": str(toy / "untrained"),
        "--model.reasoner.dtype": "float32",
        "--model.dialogue.size": "112",
        "--model.segmenter": "StillSegmenter",
        "--model.max_completion_length": "8",
        "--model.optimizer.learning_rate": "1e-3",
        "--model.optimizer.warmup_steps": "2",
        "--model.optimizer.decay_steps": "3",
        "--data.num_workers": "0",
        "--data.batch_size": "1",
        "--data.val.root": str(toy / "shapes"),
        f"--data.train.{data}": str(toy / "shapes"),
    }
    given = [word for pair in small.items() for word in pair]
    return ["fit", "-c", str(ROOT / "configs/veason_r1" / config), *given, *more]


def run(folder: Path, *given: str, **variables: str) -> int:
    """Run the command in a fork of this process, in `folder`, and return its status (negative: the signal)."""

    def work():
        os.chdir(folder)
        os.environ |= variables
        logging.getLogger().handlers.clear()  # pytest's; without them warnings go to the error stream, as in a shell
        thinkseg.main([*given])

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode


def write_toy(folder: Path) -> Path:
    """Write a toy benchmark and a random reasoner."""
    small = ["--videos", "2", "--valid_videos", "1", "--preset", "easy"]
    thinkseg.main(["data", "shapes", "--root", str(folder / "shapes"), *small])
    sizes = ["--hidden_size", "32", "--num_layers", "1", "--vision_depth", "1", "--num_heads", "2"]
    thinkseg.main(["model", *sizes, "--out", str(folder / "untrained")])
    return folder


#: What two checkpoints of the same place may count differently, without a meaning for what follows: Lightning takes up
#: the batch's completion when it starts again, numbers every validation, and forgets the score before the best.
COUNTED_ANEW = ("val_loop.batch_progress/total", "epoch_loop.batch_progress", "/current_score")


def load(file: Path) -> dict:
    return torch.load(file, weights_only=True)


def last_of(folder: Path) -> Path:
    return sorted((folder / "checkpoints").glob("step-*.ckpt"))[-1]


def differ(first: Path, second: Path) -> list[str]:
    """Where two checkpoints differ in what matters."""
    found = differences(load(first), load(second))
    return [line for line in found if not any(name in line for name in COUNTED_ANEW)]


def differences(first, second, at: str = "") -> list[str]:
    """Where two checkpoints differ, bit by bit."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [found for key in first for found in differences(first[key], second[key], f"{at}/{key}")]
    if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [found for number, pair in pairs for found in differences(*pair, f"{at}/{number}")]
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        same = first.dtype == second.dtype and first.shape == second.shape
        same = same and bool(torch.equal(first, second) or torch.equal(first.isnan(), second.isnan()))
    else:
        same = first == second
    return [] if same else [f"{at}: {str(first)[:80]} | {str(second)[:80]}"]
