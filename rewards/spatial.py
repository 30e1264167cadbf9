"""Rewards for pointing at the right place."""

from typing import Any

import torch
from torch import Tensor

from datamodules.canvas import to_canvas
from datamodules.structures import VideoSample
from dialogues.episode import Episode
from rewards.base import Reward
from rewards.functional import Matching, box_iou, match


class BoxIoU(Reward):
    """Mean IoU of the boxes with the objects in the chosen frame, matched one to one.

    ``S = (sum of IoU over the best one-to-one matching) / max(M, N)`` for M boxes and N objects that are visible in the
    chosen frame. No keyframe earns 0. If nothing is visible there, every box is surplus and earns 0; no box at all is
    right, and earns 1, only if the target is in no shown frame.

    (Spatial reward of Veason-R1, repaired: boxes are half-open, so that nothing has an area by convention only; objects
    that are absent from the frame are no targets, so that a dummy box earns nothing and counts as surplus.)

    Args:
        released: as the published code: on a square canvas, with extents one pixel longer, and with a slot
            ``[0, 0, 0, 0]`` for each absent object (one for all, if none is visible); 0 if an IoU is not finite.
        canvas: side of that canvas.
    """

    def __init__(self, released: bool = False, canvas: int = 560, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.released = released
        self.canvas = canvas

    def score(self, episode: Episode) -> float:
        """Return the mean matched IoU, in [0, 1]."""
        answer, sample = episode.last.answer, episode.sample
        matching = match_boxes(episode, self.released, self.canvas)
        if matching is None:
            return 0.0
        if self.released or len(answer.boxes) or sample.target(episode.chat.shown).any():
            return matching.score
        return 1.0


def match_boxes(episode: Episode, released: bool = False, canvas: int = 560) -> Matching | None:
    """Match the boxes of the answer with the objects in its keyframe.

    Args:
        episode: an attempt.
        released: see `BoxIoU`.
        canvas: see `BoxIoU`.

    Returns:
        The matching, rows counting the boxes of the answer, or None if there is no keyframe to look for objects in or,
        with ``released``, the published code would have raised (and scored 0).
    """
    answer, sample = episode.last.answer, episode.sample
    if answer.keyframe is None:
        return None
    if not released:
        return match(box_iou(answer.boxes, sample.boxes(answer.keyframe)))
    boxes = to_canvas(answer.boxes, sample.size, canvas)
    iou = box_iou(boxes, canvas_slots(sample, answer.keyframe, canvas), inclusive=True)
    return match(iou) if len(boxes) and iou.isfinite().all() else None


def canvas_slots(sample: VideoSample, time: int, canvas: int = 560) -> Tensor:
    """Return the published box targets of one frame.

    Args:
        sample: the sample.
        time: time index of the frame.
        canvas: side of the square canvas.

    Returns:
        ``float64 (N, 4)`` xyxy on the canvas, the last covered pixel included; one row per annotated object, zeros if
        it is absent, but a single row of zeros if all are.
    """
    boxes = to_canvas(sample.boxes(time), sample.size, canvas)
    if not len(boxes):
        return torch.zeros(1, 4, dtype=torch.float64)
    assert sample.masks is not None  # or `boxes` would have raised
    visible = sample.masks.at(time).flatten(1).any(dim=1)
    slots = torch.zeros(len(visible), 4, dtype=torch.float64)
    slots[visible] = boxes
    return slots
