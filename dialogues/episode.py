"""One attempt at one sample: what was written, what it says, and what came of it."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from datamodules.structures import VideoSample
from dialogues.chat import Chat


def _no_boxes() -> Tensor:
    return torch.zeros(0, 4, dtype=torch.float64)


@dataclass
class Answer:
    """What one completion says, in canonical units.

    Args:
        thinking: the chain of thought, without its tags.
        keyframe: time index into ``VideoSample.frames``, or None if none was named.
        boxes: ``float64 (M, 4)`` xyxy in pixels of the sample's frames, half-open. JSON numbers are doubles.
        form: how well each part of the prescribed form was kept, in [0, 1], by name; graded while reading, on the raw
            items, so that no reward parses text.
    """

    thinking: str = ""
    keyframe: int | None = None
    boxes: Tensor = field(default_factory=_no_boxes)
    form: dict[str, float] = field(default_factory=dict)


@dataclass
class Completion:
    """What the reasoner wrote.

    Args:
        token_ids: sampled tokens, the end token included if there is one.
        text: their text without special tokens.
        logprobs: ``float32 (L,)`` log-probability of each token under the policy that sampled it; empty if nobody did.
        finished: whether the end token was sampled, as opposed to running out of length.
    """

    token_ids: list[int]
    text: str
    logprobs: Tensor = field(default_factory=lambda: torch.zeros(0))
    finished: bool = True

    @property
    def drawn_from_numbers(self) -> bool:
        """Whether the logits that tokens were drawn from were numbers; otherwise the text means nothing."""
        return bool(self.logprobs.isfinite().all())


@dataclass
class Turn:
    """A completion, what it says, and the masks it leads to.

    Args:
        completion: what was written.
        answer: what it says.
        mask_frames: time indices of the segmented frames, K of them.
        masks: ``bool (M, K, H, W)``, one plane per box of the answer; M is 0 if there was nothing to segment.
            None if the segmenter was not asked, or failed: then ``failure`` says why.
        failure: the segmenter's error; such an episode is never scored.
    """

    completion: Completion
    answer: Answer
    mask_frames: list[int] = field(default_factory=list)
    masks: Tensor | None = None
    failure: str | None = None


@dataclass
class Episode:
    """One attempt, with everything needed to score it and to learn from it."""

    sample: VideoSample
    chat: Chat
    turns: list[Turn]

    @property
    def last(self) -> Turn:
        """The turn that holds the final answer."""
        return self.turns[-1]

    @property
    def prediction(self) -> Tensor:
        """Union of the predicted masks, ``bool (K, H, W)`` at ``last.mask_frames``; all False without an object."""
        masks = self.last.masks
        if masks is None:
            raise ValueError(
                f"Expected masks for {self.sample.key!r}, but got none: {self.last.failure or 'not asked'}"
            )
        return masks.any(dim=0)
