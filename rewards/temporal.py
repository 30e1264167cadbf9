"""Rewards for looking at the right time."""

from typing import Any

import torch

from dialogues.episode import Episode
from rewards.base import Reward
from rewards.functional import resize_nearest


class KeyframeArea(Reward):
    """How large the target is in the chosen frame: its area there, divided by its largest area in any shown frame.

    Independent of the boxes; ``BoxIoU`` and ``MaskConsistency`` say whether the object in that frame was found. A frame
    that was not shown, or none, earns 0. If the target is in no shown frame, no choice is better than another and the
    reward does not apply.

    (Keyframe reward of Veason-R1. It knows size only, not occlusion or distinctiveness: that is its definition.)

    Args:
        released: as the published code: areas on a square canvas that masks are resized to (nearest), over all frames
            of the sample, in float32, 0 where the target is never visible.
        canvas: side of that canvas in pixels.
    """

    def __init__(self, released: bool = False, canvas: int = 560, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.released = released
        self.canvas = canvas

    def score(self, episode: Episode) -> float | None:
        """Return the ratio of areas, in [0, 1]."""
        sample, keyframe = episode.sample, episode.last.answer.keyframe
        if self.released:
            return 0.0 if keyframe is None else self._released(episode, keyframe)
        shown = list(episode.chat.shown)
        areas = sample.target(shown).sum(dim=(-2, -1)).tolist()
        if max(areas) == 0:
            return None
        return areas[shown.index(keyframe)] / max(areas) if keyframe in shown else 0.0

    def _released(self, episode: Episode, keyframe: int) -> float:
        areas = resize_nearest(episode.sample.target(), self.canvas).sum(dim=(-2, -1)).to(torch.float32)
        if not areas.any():
            return 0.0
        # A product with the reciprocal, not a quotient: they differ in the last bit.
        return (areas.max().reciprocal() * areas[keyframe]).clamp(0, 1).item()
