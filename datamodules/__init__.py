"""From disk to `VideoSample`. Knows no model."""

import torchvision_shim  # noqa: F401
from datamodules.base import VideoDataModule
from datamodules.conversations import Conversation, ConversationDataset
from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.errors import BadSampleError, DatasetNotFoundError
from datamodules.mevis import MeViS
from datamodules.revos import ReVOS
from datamodules.sampling import EveryFrame, FrameSelection, StridedThroughAnchor, UniformSelection
from datamodules.structures import LazyStack, VideoSample
from datamodules.videos import OwnVideos

__all__ = [
    "BadSampleError",
    "Conversation",
    "ConversationDataset",
    "DatasetNotFoundError",
    "EveryFrame",
    "FrameSelection",
    "LazyStack",
    "MeViS",
    "OwnVideos",
    "ReVOS",
    "StridedThroughAnchor",
    "UniformSelection",
    "VideoDataModule",
    "VideoDataset",
    "VideoRecord",
    "VideoSample",
]
