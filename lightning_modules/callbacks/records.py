"""What the steps of a module hand to its callbacks, and how an answer is written down."""

from collections.abc import Iterator, Mapping
from typing import Any

from dialogues.episode import Episode
from rewards.base import Scores


def scored_groups(outputs: Any) -> Iterator[tuple[list[Episode], Scores]]:
    """Yield the groups and their scores from the outputs of a step; none if the step rolled nothing out."""
    if isinstance(outputs, Mapping) and "groups" in outputs:
        yield from zip(outputs["groups"], outputs["scores"], strict=True)


def answer_record(episode: Episode) -> dict[str, Any]:
    """Return an answer as a flat record for JSON.

    ``keyframe`` is a position in the video (``frame_ids``), ``boxes`` are xyxy in pixels, half-open, and ``length``
    counts tokens.
    """
    sample, turn = episode.sample, episode.last
    keyframe = turn.answer.keyframe
    return {
        "sample": sample.key,
        "expression": sample.expression,
        "text": turn.completion.text,
        "thinking": turn.answer.thinking,
        "keyframe": None if keyframe is None else sample.frame_ids[keyframe],
        "boxes": turn.answer.boxes.tolist(),
        "length": len(turn.completion.token_ids),
        "finished": turn.completion.finished,
        "failure": turn.failure,
    }


def score_record(scores: Scores, member: int) -> dict[str, Any]:
    """Return the rewards of one member of a group as a record for JSON; NaN means not applicable."""
    parts = {name: part[member].item() for name, part in scores.parts.items()}
    return {"reward": scores.total[member].item(), "rewards": parts}
