"""One training run as one of several ranks, small enough for CPUs: what the tests of strategies compare."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import torchvision_shim  # noqa: F401, I001
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.conversations import Conversation
from datamodules.structures import VideoSample
from dialogues import VeasonR1
from lightning_modules import AdamWConfig, GRPOModule, SFTModule
from lightning_modules.policy.losses import PolicyLoss
from lightning_modules.training import TrainingModule
from models.frame_samplers import AllFrames
from models.reasoners import LoRA, QwenVL
from models.reasoners.scratch import ScratchConfig, build
from models.segmenters import StillSegmenter
from rewards.base import Reward
from tests.builders import moving_square, video_sample


class Vowels(Reward):
    def score(self, episode):
        return float(sum(letter in "aeiou" for letter in episode.last.completion.text))


def write_model(folder: Path, family="qwen3_vl") -> None:
    model, processor = build(ScratchConfig(family=family, hidden_size=64, intermediate_size=64, num_layers=2, initializer_range=0.05))
    end = processor.tokenizer.eos_token_id
    with torch.no_grad():
        model.get_input_embeddings().weight[end] *= 4
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@dataclass
class Case:
    stage: str = "sft"
    strategy: str = "one"
    steps: int = 20
    micro: int | None = None
    skipped: Sequence[int] = ()
    lora: bool = False
    options: dict = field(default_factory=dict)


def samples(step: int) -> list[VideoSample]:
    masks = moving_square(t=3, size=56, side=16, step=8)
    videos = []
    for index in range(4):
        sample = video_sample(masks, expression=f"square {index}", video_id=f"v{step}-{index}")
        sample.meta["conversations"] = [Conversation(f"square {index}", "It moves. " * (index + 1), index % 3, sample.boxes(index % 3).double())]
        videos.append(sample)
    return videos


class Watch(Callback):
    def __init__(self):
        self.curve = []
        self.weights = {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.curve.append({k: float(v) for k, v in trainer.callback_metrics.items() if "time" not in k})

    def on_train_end(self, trainer, module):
        with module.parallelism.whole_weights(module):
            self.weights = {n: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone() for n, p in module.reasoner.named_parameters()}


def strategy(name):
    from lightning_modules.fsdp import FSDP2Strategy
    from lightning_modules.zero import ZeROStrategy
    return {"one": lambda: "auto", "ddp": lambda: "ddp", "zero2": lambda: ZeROStrategy(2), "zero3": lambda: ZeROStrategy(3), "zero3_offload": lambda: ZeROStrategy(3, offload_optimizer=True), "fsdp": FSDP2Strategy}[name]()


def module(case: Case, folder: Path) -> TrainingModule:
    common = dict(reasoner=QwenVL(str(folder), dtype="float32", lora=LoRA(r=2) if case.lora else None), dialogue=VeasonR1(size=56), segmenter=StillSegmenter(), frame_sampler=AllFrames(),
                  micro_batch_size=case.micro, optimizer=AdamWConfig(1e-3)) | case.options
    if case.stage == "sft":
        return SFTModule(**common)
    return GRPOModule(rewards={"vowels": Vowels()}, num_generations=4, max_completion_length=12, **common)


def run(case: Case, folder: Path, rank=0, world=1):
    batches = [samples(step)[rank::world] if step not in case.skipped or rank == 0 else [] for step in range(case.steps)]
    if world == 1:
        batches = [b if s not in case.skipped else b[::2] for s, b in enumerate(batches)]
    watch = Watch()
    torch.manual_seed(0)
    tr = Trainer(accelerator="cpu", devices=world, strategy=strategy(case.strategy), max_steps=case.steps, max_epochs=-1, logger=False, callbacks=[watch],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, log_every_n_steps=1,
            default_root_dir=folder / "run")
    m = module(case, folder)
    tr.fit(m, DataLoader(batches, batch_size=None, collate_fn=lambda b: b))
    return watch.curve, watch.weights


def _rank(rank, world, port, case, folder, out):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "RANK": str(rank)}
    torch.set_num_threads(1)
    import faulthandler; faulthandler.dump_traceback_later(280, exit=True)
    torch.save(run(case, folder, rank, world), out / f"{rank}.pt")


def run_ranks(case, folder, out, world=2):
    ctx = get_context("forkserver")
    ctx.set_forkserver_preload(["tests.parallel.ranks"])
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    ps = [ctx.Process(target=_rank, args=(r, world, port, case, folder, out)) for r in range(world)]
    [p.start() for p in ps]; [p.join(300) for p in ps]
    for p in ps:
        if p.exitcode is None: p.kill(); 
    print([p.exitcode for p in ps])
    return [torch.load(out / f"{r}.pt") for r in range(world)]
