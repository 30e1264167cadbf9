"""What a run shows and leaves behind."""

import torchvision_shim  # noqa: F401
from lightning_modules.callbacks.alarms import HackingAlarm
from lightning_modules.callbacks.checkpoints import RecentCheckpoint
from lightning_modules.callbacks.export import HFExport
from lightning_modules.callbacks.predictions import PictureWriter, PredictionWriter
from lightning_modules.callbacks.results import ResultsWriter
from lightning_modules.callbacks.rollouts import RolloutLogger

__all__ = [
    "HFExport",
    "HackingAlarm",
    "PictureWriter",
    "PredictionWriter",
    "RecentCheckpoint",
    "ResultsWriter",
    "RolloutLogger",
]
