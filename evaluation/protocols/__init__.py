"""How each benchmark measures and averages."""

from evaluation.protocols.base import BenchmarkProtocol, Missing, Row, VideoScores
from evaluation.protocols.choice import protocol_of, protocols
from evaluation.protocols.groundmore import GroundMoReProtocol
from evaluation.protocols.images import ReasonSegProtocol, RefCOCOProtocol
from evaluation.protocols.long_rvos import LongRVOSProtocol
from evaluation.protocols.mevis import MeViSProtocol, MeViSv2Protocol
from evaluation.protocols.own_videos import OwnVideosProtocol
from evaluation.protocols.reason_vos import ReasonVOSProtocol
from evaluation.protocols.ref_davis import RefDAVIS17AnnotatorsProtocol, RefDAVIS17Protocol
from evaluation.protocols.ref_sav import RefSAVProtocol
from evaluation.protocols.ref_youtube_vos import RefYouTubeVOSProtocol
from evaluation.protocols.revos import ReVOSProtocol
from evaluation.protocols.vicas import ViCaSProtocol

__all__ = [
    "BenchmarkProtocol",
    "GroundMoReProtocol",
    "LongRVOSProtocol",
    "MeViSProtocol",
    "MeViSv2Protocol",
    "Missing",
    "OwnVideosProtocol",
    "ReVOSProtocol",
    "ReasonSegProtocol",
    "ReasonVOSProtocol",
    "RefCOCOProtocol",
    "RefDAVIS17AnnotatorsProtocol",
    "RefDAVIS17Protocol",
    "RefSAVProtocol",
    "RefYouTubeVOSProtocol",
    "Row",
    "ViCaSProtocol",
    "VideoScores",
    "protocol_of",
    "protocols",
]
