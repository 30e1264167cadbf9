"""From samples to gradients."""

import torchvision_shim  # noqa: F401, I001

from lightning_modules.fsdp import FSDP2Strategy
from lightning_modules.grpo import GRPOModule
from lightning_modules.rollout import rollout
from lightning_modules.segmentation import SegmentationModule
from lightning_modules.sft import SFTModule
from lightning_modules.training import AdamWConfig, TrainingModule
from lightning_modules.zero import ZeROStrategy

__all__ = [
    "AdamWConfig",
    "FSDP2Strategy",
    "GRPOModule",
    "SFTModule",
    "SegmentationModule",
    "TrainingModule",
    "ZeROStrategy",
    "rollout",
]
