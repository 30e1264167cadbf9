"""A training run on one or several processes, small enough for CPUs: what the tests of strategies compare."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from datamodules.conversations import Conversation
from datamodules.structures import VideoSample
from dialogues import VeasonR1
from lightning_modules import AdamWConfig, GRPOModule, SFTModule
from lightning_modules.fsdp import FSDP2Strategy
from lightning_modules.training import TrainingModule
from lightning_modules.zero import ZeROStrategy
from models.frame_samplers import AllFrames
from models.reasoners import QwenVL
from models.reasoners.scratch import ScratchConfig, build
from models.segmenters import StillSegmenter
from rewards.base import Reward
from tests.builders import moving_square, video_sample

#: samples of a global batch
BATCH = 4
STRATEGIES = {
    "ddp": lambda: "ddp",
    "zero2": lambda: ZeROStrategy(2, trust_shards=True),
    "zero3": lambda: ZeROStrategy(3, trust_shards=True),
    "zero3_offload": lambda: ZeROStrategy(3, offload_optimizer=True, offload_parameters=True),
    "fsdp": FSDP2Strategy,
    "fsdp_shards": lambda: FSDP2Strategy(save_distributed_checkpoint=True, trust_shards=True),
}
Poison = Literal["loss", "gradient", "reward", "logits"]


@dataclass
class Case:
    """What is trained, and what happens on the way.

    ``idle`` are the steps at which the last rank has no samples, ``empty`` those at which no rank has; ``poison`` says
    at which steps what of the last rank is no number.
    """

    stage: Literal["sft", "grpo"]
    strategy: str | None = None
    steps: int = 20
    idle: Sequence[int] = ()
    empty: Sequence[int] = ()
    poison: dict[int, Poison] = field(default_factory=dict)
    reasoner: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    #: where the state after two steps is saved to, and what is gone on from
    save: str | None = None
    checkpoint: str | None = None


@dataclass
class Outcome:
    """What a rank saw: the curves, the weights after each step that was asked for, and the error that ended it."""

    curve: list[dict[str, float]]
    weights: dict[int, dict[str, Tensor]]
    error: str = ""


class Vowels(Reward):
    """Counts vowels: a reward that random text can have."""

    poisoned = False

    def score(self, episode):
        if self.poisoned:
            return float("nan")
        return float(sum(letter in "aeiou" for letter in episode.last.completion.text))


class Poisoned(QwenVL):
    """A reasoner of which something can be made no number."""

    poison: Poison | None = None
    generating = False

    def generate(self, *args, **kwargs):
        self.generating = True
        groups = super().generate(*args, **kwargs)
        self.generating = False
        return groups

    def logprobs(self, episodes, temperature=1.0):
        output = super().logprobs(episodes, temperature)
        if self.poison == "loss":
            return output._replace(logprobs=output.logprobs * torch.nan)
        if self.poison == "gradient" and output.logprobs.requires_grad:
            output.logprobs.register_hook(lambda gradient: gradient * torch.nan)
        return output

    def logits(self, states):
        logits = super().logits(states)
        return logits * torch.nan if self.poison == "logits" and not torch.is_grad_enabled() else logits


class Watch(Callback):
    """Poisons what a case poisons, and keeps the curve and the weights."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.outcome = Outcome([], {})

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        last = trainer.global_rank == trainer.world_size - 1
        poison = module.reasoner.poison = self.case.poison.get(batch_idx) if last else None
        for reward in module.rewards.rewards.values():
            reward.poisoned = poison == "reward"

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        numbers = trainer.callback_metrics.items()
        self.outcome.curve.append({name: float(value) for name, value in numbers if "time" not in name})
        saves = self.case.save is not None and batch_idx == 1
        if saves or self.case.poison or batch_idx == self.case.steps - 1:
            self.outcome.weights[batch_idx] = whole_weights(module)
        if saves:
            trainer.save_checkpoint(self.case.save)


class Batches:
    """Batches in their order, which a run that is gone on with takes up where it left."""

    def __init__(self, batches: list[list[VideoSample]]) -> None:
        self.batches = batches
        self.given = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[VideoSample]]:
        while self.given < len(self):
            self.given += 1
            yield self.batches[self.given - 1]

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.given = state["given"]


def whole_weights(module: TrainingModule) -> dict[str, Tensor]:
    """Return the reasoner's weights, whatever shards they are in."""
    with module.parallelism.whole_weights(module):
        return {
            name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()
            for name, value in module.reasoner.named_parameters()
        }


def write_model(folder: Path) -> None:
    """Write a model that often ends its answers, so that their lengths differ."""
    model, processor = build(ScratchConfig(hidden_size=64, intermediate_size=64, num_layers=2, initializer_range=0.05))
    with torch.no_grad():
        model.get_input_embeddings().weight[processor.tokenizer.eos_token_id] *= 4
    for part in (model, processor):
        part.save_pretrained(folder)


def samples(step: int) -> list[VideoSample]:
    """Return a global batch: questions about squares, with chains of thought of different lengths."""
    masks = moving_square(t=3, size=56, side=16, step=8)
    videos = [video_sample(masks, expression=f"square {index}", video_id=f"v{step}-{index}") for index in range(BATCH)]
    for index, video in enumerate(videos):
        thought = "It moves. " * (index + 1)
        video.meta["conversations"] = [
            Conversation(video.expression, thought, index % 3, video.boxes(index % 3).double())
        ]
    return videos


def batches(case: Case, rank: int, world_size: int) -> list[list[VideoSample]]:
    """Return a rank's share of every global batch; the ranks' shares are the same samples, however many ranks."""
    shares = []
    for step in range(case.steps):
        share = samples(step)[rank::world_size]
        if step in case.empty:
            share = []
        elif step in case.idle:  # those of the first of two ranks are left
            share = samples(step)[::2] if rank == 0 else []
        shares.append(share)
    return shares


def build_module(case: Case, folder: Path) -> TrainingModule:
    """Return the module of a case."""
    settings: dict[str, Any] = {
        "reasoner": Poisoned(str(folder), dtype="float32", **case.reasoner),
        "dialogue": VeasonR1(size=56),
        "segmenter": StillSegmenter(),
        "frame_sampler": AllFrames(),
        "optimizer": AdamWConfig(1e-3),
    }
    if case.stage == "sft":
        return SFTModule(**settings, **case.options)
    rewards = {"vowels": Vowels()}
    return GRPOModule(rewards=rewards, num_generations=4, max_completion_length=12, **settings, **case.options)


def train(case: Case, folder: Path, rank: int = 0, world_size: int = 1) -> Outcome:
    """Run a case as one rank, in this process."""
    watch = Watch(case)
    torch.manual_seed(0)  # of adapters
    trainer = Trainer(
        accelerator="cpu",
        devices=world_size,
        strategy=STRATEGIES[case.strategy]() if case.strategy else "auto",
        precision=case.precision,
        max_steps=case.steps * case.options.get("num_iterations", 1),
        callbacks=[watch, *case.trainer.get("callbacks", [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        default_root_dir=case.trainer.get("default_root_dir", folder),
    )
    module = build_module(case, folder)
    loader = Batches(batches(case, rank, world_size))
    try:
        trainer.fit(module, loader, ckpt_path=case.checkpoint, weights_only=True)
    except FloatingPointError as error:
        watch.outcome.error = str(error)
    return watch.outcome


def train_on_ranks(case: Case, folder: Path, world_size: int = 2) -> list[Outcome]:
    """Run a case on several processes."""
    files = [folder / f"outcome_{rank}.pt" for rank in range(world_size)]
    run_on_ranks(_train_and_save, case, folder, files, world_size, world_size=world_size)
    return [Outcome(**torch.load(file, weights_only=True)) for file in files]


def run_on_ranks(work: Callable[..., None], *args: Any, world_size: int = 2, patience: float = 300) -> None:
    """Call ``work(*args)`` on several processes, which know of each other as torchrun's do.

    Raises:
        TimeoutError: if a rank waits for the others for ever.
        RuntimeError: if one fails.
    """
    context = get_context("forkserver")  # imports everything once, for all tests
    context.set_forkserver_preload(["torchvision_shim", "deepspeed", "tests.lightning_modules.ranks"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=_rank, args=(rank, world_size, port, work, args)) for rank in range(world_size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(patience)
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
    if None in codes:
        raise TimeoutError(f"Expected every rank to end within {patience} s, but the exit codes are {codes}")
    if any(codes):
        raise RuntimeError(f"Expected every rank to succeed, but the exit codes are {codes}")


def _rank(rank: int, world_size: int, port: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "RANK": str(rank),
    }
    torch.set_num_threads(1)
    work(*args)


def _train_and_save(case: Case, folder: Path, files: list[Path], world_size: int) -> None:
    rank = int(os.environ["RANK"])
    torch.save(vars(train(case, folder, rank, world_size)), files[rank])
