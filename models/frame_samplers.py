"""Which frames of a sample are shown to the reasoner."""

from abc import ABC, abstractmethod

import numpy as np

from datamodules.structures import VideoSample


class FrameSampler(ABC):
    """Chooses the frames of the first message."""

    @abstractmethod
    def __call__(self, sample: VideoSample) -> list[int]:
        """Return the time indices to show, ascending."""


class AllFrames(FrameSampler):
    """Show every frame of the sample (a training sample holds only the frames its dataset drew)."""

    def __call__(self, sample: VideoSample) -> list[int]:
        """Return every time index."""
        return list(range(sample.num_frames))


class UniformFrames(FrameSampler):
    """Show ``num_frames`` evenly spaced frames, both ends included, or all if there are no more than that.

    The indices are ``linspace(0, T - 1, num_frames)`` truncated to integers, as Veason-R1 evaluates with 8
    (``batch_eval_keyframe_sft_dataset_.py`` of SitongGong/Veason-R1).

    Args:
        num_frames: most frames to show.
    """

    def __init__(self, num_frames: int = 8) -> None:
        if num_frames < 1:
            raise ValueError(f"Expected `num_frames` to be at least 1, but got {num_frames}")
        self.num_frames = num_frames

    def __call__(self, sample: VideoSample) -> list[int]:
        """Return evenly spaced time indices."""
        if sample.num_frames <= self.num_frames:
            return list(range(sample.num_frames))
        return [int(time) for time in np.linspace(0, sample.num_frames - 1, self.num_frames, dtype=int)]
