"""Writes a ZeRO-2 checkpoint of one process, which is a program of its own: DeepSpeed stays in the process it is in.

python -m tests.lightning_modules.zero_checkpoint MODEL FOLDER
"""

import torchvision_shim  # noqa: F401, I001 - before lightning

import sys
from pathlib import Path

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from safetensors.torch import save_file

from lightning_modules import AdamWConfig, SFTModule
from tests.lightning_modules.test_training import conversations, loader, parts, qwen


class CPUDeepSpeedStrategy(DeepSpeedStrategy):
    """DeepSpeed without Lightning's check for a GPU."""

    def setup_environment(self) -> None:
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0)  # DeepSpeed asks for an index


def main(model: Path, folder: Path) -> None:
    """Train a model with a frozen tower for a step; write ``last.ckpt`` and its true weights beside it."""
    reasoner = qwen(model, freeze_vision=True)
    module = SFTModule(reasoner=reasoner, **parts(), optimizer=AdamWConfig(1e-2))
    strategy = CPUDeepSpeedStrategy(stage=2, process_group_backend="gloo")
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        max_steps=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(conversations()))
    trainer.save_checkpoint(folder / "last.ckpt")
    save_file({name: value.clone() for name, value in reasoner.state_dict().items()}, folder / "truth.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
