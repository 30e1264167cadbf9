"""From episodes to numbers."""

import torchvision_shim  # noqa: F401
from rewards.base import Reward, RewardCollection, Scores
from rewards.form import Form
from rewards.mask import MaskConsistency
from rewards.spatial import BoxIoU
from rewards.temporal import KeyframeArea

__all__ = ["BoxIoU", "Form", "KeyframeArea", "MaskConsistency", "Reward", "RewardCollection", "Scores"]
