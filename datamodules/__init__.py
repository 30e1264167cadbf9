"""From disk to `VideoSample`. Knows no model."""

import torchvision_shim  # noqa: F401
from datamodules.base import VideoDataModule
from datamodules.conversations import Conversation, ConversationDataset
from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.errors import BadSampleError, DatasetNotFoundError
from datamodules.groundmore import GroundMoRe
from datamodules.long_rvos import LongRVOS
from datamodules.mevis import MeViS, MeViSv2
from datamodules.reason_seg import ReasonSeg
from datamodules.reason_vos import ReasonVOS
from datamodules.ref_coco import RefCOCO
from datamodules.ref_davis import RefDAVIS17
from datamodules.ref_sav import RefSAV
from datamodules.ref_youtube_vos import RefYouTubeVOS
from datamodules.revos import ReVOS
from datamodules.sampling import EveryFrame, FrameSelection, StridedThroughAnchor, UniformSelection
from datamodules.structures import LazyStack, VideoSample
from datamodules.vicas import ViCaS
from datamodules.videos import OwnVideos

__all__ = [
    "BadSampleError",
    "Conversation",
    "ConversationDataset",
    "DatasetNotFoundError",
    "EveryFrame",
    "FrameSelection",
    "GroundMoRe",
    "LazyStack",
    "LongRVOS",
    "MeViS",
    "MeViSv2",
    "OwnVideos",
    "ReVOS",
    "ReasonSeg",
    "ReasonVOS",
    "RefCOCO",
    "RefDAVIS17",
    "RefSAV",
    "RefYouTubeVOS",
    "StridedThroughAnchor",
    "UniformSelection",
    "ViCaS",
    "VideoDataModule",
    "VideoDataset",
    "VideoRecord",
    "VideoSample",
]
