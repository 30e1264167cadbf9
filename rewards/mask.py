"""Rewards for what the segmenter makes of the answer."""

from typing import Any, ClassVar, Literal

from dialogues.episode import Episode
from rewards.base import Reward
from rewards.functional import mask_iou, resize_nearest
from rewards.spatial import match_boxes


class MaskConsistency(Reward):
    """Mean IoU, frame by frame, of the predicted masks with the target, both united over their objects.

    Frames on which both are empty are left out: agreeing on nothing is free. If all are, or if the segmenter failed,
    the reward does not apply. An answer without keyframe or boxes has empty masks.

    (Consistency reward of Veason-R1, repaired: every box is followed and united, so that a surplus box costs here too;
    frames that are empty in both are not counted as 1; a failing segmenter is not a wrong answer.)

    Args:
        released: as the published code: masks and target are resized to a square canvas (nearest), frames that are
            empty in both count as 1, and a failing segmenter, or boxes that cannot be matched, score 0; IoU, their sum
            and its mean are float32.
        matching: unite the masks of all boxes, or only of those that are matched with an object in the keyframe. The
            published rewards are ``matched`` and, in their ``external`` variants, ``all``. Default: ``matched`` if
            ``released``, else ``all``.
        canvas: side of that canvas in pixels.
    """

    needs_masks: ClassVar[bool] = True

    def __init__(
        self,
        released: bool = False,
        matching: Literal["all", "matched"] | None = None,
        canvas: int = 560,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if matching not in (None, "all", "matched"):
            raise ValueError(f"Expected `matching` to be 'all' or 'matched', but got {matching!r}")
        self.released = released
        self.scores_failures = released
        self.matching = matching or ("matched" if released else "all")
        self.canvas = canvas

    def score(self, episode: Episode) -> float | None:
        """Return the mean IoU, in [0, 1]."""
        if episode.last.failure is not None:
            return 0.0 if self.released else None
        if episode.last.answer.keyframe is None:
            return 0.0
        rows = self._rows(episode)
        if self.released and not rows:  # the published worker has nothing to prompt, and fails
            return 0.0
        if episode.last.masks is None:
            raise ValueError(f"Expected masks for {episode.sample.key!r}, but the segmenter was not asked")
        masks, target = episode.last.masks[rows].any(dim=0), episode.sample.target(episode.last.mask_frames)
        if self.released:
            masks, target = resize_nearest(masks, self.canvas), resize_nearest(target, self.canvas)
            ious = mask_iou(masks, target).nan_to_num(1.0)
            # One after the other in float32, as published: another order of summation changes the last bit.
            return float(sum(ious.unbind()) / len(ious))
        ious = mask_iou(masks, target).double()
        return None if ious.isnan().all() else ious.nanmean().item()

    def _rows(self, episode: Episode) -> list[int]:
        """Return which boxes of the answer count."""
        if self.matching == "all":
            return list(range(len(episode.last.answer.boxes)))
        matching = match_boxes(episode, self.released, self.canvas)
        return [] if matching is None else matching.rows
