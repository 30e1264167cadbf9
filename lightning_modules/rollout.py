"""The spine: the only way from a video to masks, in fit, validate, test, predict and notebooks."""

import logging
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from datamodules.structures import VideoSample
from dialogues.base import Dialogue
from dialogues.episode import Answer, Episode, Turn
from models.frame_samplers import FrameSampler
from models.reasoners.base import Reasoner, Sampling
from models.segmenters.base import Prompt, Segmenter

logger = logging.getLogger(__name__)


def rollout(
    samples: Sequence[VideoSample],
    reasoner: Reasoner,
    dialogue: Dialogue,
    segmenter: Segmenter | None,
    frame_sampler: FrameSampler,
    group_size: int = 1,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    segment_frames: Literal["shown", "all"] = "all",
    on_segmenter_error: Literal["error", "skip"] = "error",
) -> list[list[Episode]]:
    """Show videos to a reasoner, read what it answers, and segment what it points at.

    Args:
        samples: one group each.
        reasoner: writes the answers.
        dialogue: asks and reads.
        segmenter: follows the boxes of an answer through the video; None leaves ``Turn.masks`` empty.
        frame_sampler: chooses the frames that are shown.
        group_size: answers per sample.
        sampling: how they are drawn.
        segment_frames: whether objects are followed through the frames shown, or through all frames of the sample.
        on_segmenter_error: ``error`` lets a segmenter's exception through; ``skip`` logs it and records it in
            ``Turn.failure``, and the episode is never scored.

    Returns:
        One group of ``group_size`` episodes per sample, in order.
    """
    groups = answer(samples, reasoner, dialogue, frame_sampler, group_size, sampling)
    if segmenter is not None:
        segment(groups, segmenter, segment_frames, on_segmenter_error)
    return groups


def answer(
    samples: Sequence[VideoSample],
    reasoner: Reasoner,
    dialogue: Dialogue,
    frame_sampler: FrameSampler,
    group_size: int,
    sampling: Sampling,
) -> list[list[Episode]]:
    """Show videos to a reasoner and read what it answers: the first half of ``rollout``."""
    if not samples:  # all of a batch may have been skipped
        return []
    chats = [dialogue.ask(sample, frame_sampler(sample)) for sample in samples]
    completions = reasoner.generate(samples, chats, group_size, sampling)
    return [
        [Episode(sample, chat, [Turn(completion, dialogue.read(completion.text, chat))]) for completion in group]
        for sample, chat, group in zip(samples, chats, completions, strict=True)
    ]


def segment(
    groups: Sequence[Sequence[Episode]],
    segmenter: Segmenter,
    segment_frames: Literal["shown", "all"],
    on_segmenter_error: Literal["error", "skip"],
) -> None:
    """Fill in the masks of what the answers point at: the second half of ``rollout``."""
    for group in groups:
        sample, chat = group[0].sample, group[0].chat
        times = list(chat.shown) if segment_frames == "shown" else list(range(sample.num_frames))
        _segment(sample, [episode.last for episode in group], segmenter, times, on_segmenter_error)


def _segment(
    sample: VideoSample,
    turns: Sequence[Turn],
    segmenter: Segmenter,
    times: list[int],
    on_error: Literal["error", "skip"],
) -> None:
    """Fill in the masks of a group, with one call for all of its answers."""
    frames = sample.frames.stack(times)
    prompts = [_prompt(turn.answer, times) for turn in turns]
    try:
        masks: list[Tensor] | list[None] = segmenter(frames, prompts, range(len(times)))
        failure = None
    except Exception as error:
        if on_error == "error":
            raise
        logger.warning("%s failed on %s: %s", type(segmenter).__name__, sample.key, error, exc_info=True)
        masks, failure = [None] * len(turns), f"{type(error).__name__}: {error}"
    for turn, mask in zip(turns, masks, strict=True):
        turn.mask_frames, turn.masks, turn.failure = times, mask, failure


def _prompt(answer: Answer, times: list[int]) -> Prompt:
    """Return what the segmenter is asked; an answer without a keyframe among ``times`` asks for nothing."""
    if answer.keyframe is None or answer.keyframe not in times:
        return Prompt(0, answer.boxes[:0])
    return Prompt(times.index(answer.keyframe), answer.boxes)
