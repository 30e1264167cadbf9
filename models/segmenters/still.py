"""The trivial baseline: nothing moves, and objects are boxes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.segmenters.base import Prompt, Segmenter


class StillSegmenter(Segmenter):
    """Repeats the filled box of each object on every frame.

    What any segmenter must beat; with true boxes its J says how little the objects move. A pixel belongs to a box if
    its centre does. Points are ignored.
    """

    def __call__(self, frames: Tensor, prompts: Sequence[Prompt], segment_frames: Sequence[int]) -> list[Tensor]:
        """Segment one video for each prompt.

        Args:
            frames: ``uint8 (T, 3, H, W)`` RGB, of which only the size is used.
            prompts: one per answer; a box without a pixel of the frame gives an empty plane.
            segment_frames: time indices whose masks are wanted, K of them.

        Returns:
            Per prompt, ``bool (M, K, H, W)``, one plane per box.
        """
        size = (int(frames.shape[-2]), int(frames.shape[-1]))
        masks = []
        for prompt in prompts:
            planes = torch.zeros(len(prompt.boxes), len(segment_frames), *size, dtype=torch.bool)
            for plane, box in zip(planes, prompt.boxes.tolist(), strict=True):
                x1, y1, x2, y2 = covered_pixels(box, size)
                plane[:, y1:y2, x1:x2] = True
            masks.append(planes)
        return masks


def covered_pixels(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the pixels of a frame whose centres lie in a box.

    Column ``c`` is covered if ``x1 <= c + 0.5 < x2``, rows likewise.

    Args:
        box: xyxy in pixels, half-open; it may lie outside the frame, be empty, inverted or not finite.
        size: height and width of the frame.

    Returns:
        Half-open xyxy in whole pixels inside the frame; ``(0, 0, 0, 0)`` if no pixel is covered.
    """
    if not all(math.isfinite(c) for c in box):
        return 0, 0, 0, 0
    height, width = size
    x1, x2 = (min(max(math.ceil(c - 0.5), 0), width) for c in (box[0], box[2]))
    y1, y2 = (min(max(math.ceil(c - 0.5), 0), height) for c in (box[1], box[3]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else (0, 0, 0, 0)
