"""Episodes about a square that moves to the right, as small as they come."""

import torch

from datamodules.structures import LazyStack, VideoSample
from dialogues.chat import Chat, Exact, Frame, Message, Text
from dialogues.episode import Answer, Completion, Episode, Turn
from rewards.base import Scores

SIDE, STEP, TOP = 12, 4, 10


def moving_square(
    num_frames: int = 5, height: int = 32, width: int = 48, video_id: str = "clips/square"
) -> VideoSample:
    """A red square of 12 pixels that starts at the left border and moves 4 pixels per frame."""
    frames = torch.full((num_frames, 3, height, width), 60, dtype=torch.uint8)
    masks = torch.zeros(1, num_frames, height, width, dtype=torch.bool)
    for time in range(num_frames):
        masks[0, time, TOP : TOP + SIDE, STEP * time : STEP * time + SIDE] = True
        frames[time, 0][masks[0, time]] = 230
    names = [f"{2 * position:05d}" for position in range(3 * num_frames)]
    # Every third frame of the video, so that times, positions in the video and file names all differ.
    positions = [3 * time for time in range(num_frames)]
    return VideoSample(
        video_id,
        "0",
        "the square that moves",
        positions,
        LazyStack.of(frames),
        LazyStack.of(masks, dim=1),
        meta={"frame_names": names},
    )


def chat_about(sample: VideoSample) -> Chat:
    shown = tuple(range(sample.num_frames))
    content: list[Text | Frame] = [Frame(time, Exact(56, 56)) for time in shown]
    return Chat(
        (Message("user", (*content, Text(sample.expression, "question"))),), sample.size, tuple(sample.frame_ids), shown
    )


def perfect_episode(sample: VideoSample | None = None, keyframe: int = 0, text: str = "It moves.") -> Episode:
    """Points at the square on the keyframe and segments it in every frame."""
    sample = sample or moving_square()
    assert sample.masks is not None
    answer = Answer(text, keyframe, sample.boxes(keyframe).double(), {"tags": 1.0})
    turn = Turn(Completion([5, 6, 7], f"<think>{text}</think>"), answer, list(range(sample.num_frames)))
    turn.masks = sample.masks.stack()
    return Episode(sample, chat_about(sample), [turn])


def failed_episode(sample: VideoSample | None = None) -> Episode:
    """Says nothing that can be read, and its segmenter failed."""
    sample = sample or moving_square()
    turn = Turn(Completion([5], "\x00| `*\n", finished=False), Answer(), failure="RuntimeError: out of memory")
    return Episode(sample, chat_about(sample), [turn])


def group_of_two(sample: VideoSample | None = None) -> tuple[list[Episode], Scores]:
    """A perfect and a failed answer, and their rewards."""
    sample = sample or moving_square()
    total = torch.tensor([1.75, float("nan")], dtype=torch.float64)
    parts = {"form": torch.tensor([1.0, 0.0], dtype=torch.float64), "boxes": total - 1}
    return [perfect_episode(sample, keyframe=2), failed_episode(sample)], Scores(total, parts)
