"""Attempts at a sample, put together by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.structures import VideoSample
from dialogues.chat import Chat
from dialogues.episode import Answer, Completion, Episode, Turn


def attempt(
    sample: VideoSample,
    keyframe: int | None = 0,
    boxes: Sequence[Sequence[float]] = (),
    masks: Tensor | None = None,
    shown: Sequence[int] | None = None,
    form: dict[str, float] | None = None,
    failure: str | None = None,
) -> Episode:
    """Return an episode of one turn; ``masks`` are ``bool (M, T, H, W)``, one plane per box."""
    times = tuple(range(sample.num_frames))
    chat = Chat((), sample.size, tuple(sample.frame_ids), times if shown is None else tuple(shown))
    answer = Answer("", keyframe, torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), form or {})
    return Episode(sample, chat, [Turn(Completion([], ""), answer, list(times), masks, failure)])


def filled(box: Sequence[int], t: int = 6, size: int = 32) -> Tensor:
    """Return one plane that is True inside a box on every frame, ``bool (1, T, H, W)``."""
    masks = torch.zeros(1, t, size, size, dtype=torch.bool)
    x1, y1, x2, y2 = box
    masks[:, :, y1:y2, x1:x2] = True
    return masks
