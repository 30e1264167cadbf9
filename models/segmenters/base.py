"""What masks: prompts on frames of one video in, masks for its frames out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Prompt:
    """Where the objects are on one frame.

    Args:
        frame: time index of the prompted frame.
        boxes: ``float (M, 4)`` xyxy in pixels of the frames, half-open; one object per box.
        points: ``float (M, P, 2)`` xy in pixels, further hints per object, or None.
        labels: ``int (M, P)``, 1 for a point on the object and 0 for one off it, or None.
    """

    frame: int
    boxes: Tensor
    points: Tensor | None = None
    labels: Tensor | None = None


class Segmenter(ABC):
    """A frozen video segmenter. Not a module: it is no part of checkpoints, DDP or ZeRO shards.

    Many prompts ask about one video, because a group of answers does: the frames are encoded once, identical prompts
    run once.
    """

    @abstractmethod
    def __call__(self, frames: Tensor, prompts: Sequence[Prompt], segment_frames: Sequence[int]) -> list[Tensor]:
        """Segment one video for each prompt.

        Args:
            frames: ``uint8 (T, 3, H, W)`` RGB. Objects are followed through all of them.
            prompts: one per answer; a prompt without boxes gives masks without objects.
            segment_frames: time indices whose masks are wanted, K of them.

        Returns:
            Per prompt, ``bool (M, K, H, W)`` on the CPU, one plane per box, in the order of the boxes.
        """

    def to(self, device: torch.device | str) -> "Segmenter":
        """Move the networks, if there are any."""
        return self
