"""Film strips and films of episodes."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from dialogues.episode import Episode
from evaluation.drawing import FAINT, above, annotate, beside, caption, legend, pad, text_block
from evaluation.strips import framed, strip_times
from rewards.base import Scores

_MARGIN = 16
#: widths of the columns of names and values left of a film strip, in pixels
_NAMES, _VALUES = 84, 76


def frame_picture(episode: Episode, time: int, side: int = 224) -> Tensor:
    """Draw one frame of an episode: predicted and true mask as far as there are any, boxes on the keyframe.

    Args:
        episode: what was answered.
        time: time index of the frame.
        side: longer side of the picture in pixels.

    Returns:
        ``uint8 (3, h, w)``.
    """
    sample, turn = episode.sample, episode.last
    drawn = turn.masks is not None and time in turn.mask_frames
    return annotate(
        sample.frames.at(time),
        prediction=episode.prediction[turn.mask_frames.index(time)] if drawn else None,
        truth=None if sample.masks is None else sample.masks.at(time).any(dim=0),
        boxes=turn.answer.boxes if time == turn.answer.keyframe else None,
        side=side,
    )


def episode_strip(
    episode: Episode, heading: str, facts: Mapping[str, str], max_frames: int = 6, side: int = 224
) -> Tensor:
    """Draw an episode as a row of frames, with facts on its left and what was thought below.

    Args:
        episode: what was answered.
        heading: first line on the left.
        facts: names and values on the left.
        max_frames: most frames of the row.
        side: longer side of a frame in pixels.

    Returns:
        ``uint8 (3, h, w)``.
    """
    turn = episode.last
    keyframe = turn.answer.keyframe
    times = strip_times(sorted(turn.mask_frames or episode.chat.shown), keyframe, max_frames)
    cells = []
    for time in times:
        label = f"frame {episode.sample.frame_ids[time]}" + (", keyframe" if time == keyframe else "")
        cells.append(framed(frame_picture(episode, time, side), label, time == keyframe))
    row = beside([_panel(heading, facts), *cells])
    thought = f"segmenter failed: {turn.failure}" if turn.failure else turn.answer.thinking or turn.completion.text
    return above([row, text_block(thought, row.shape[-1], size=14, max_lines=3)])


def group_picture(group: Sequence[Episode], scores: Scores, max_frames: int = 6, side: int = 224) -> Tensor:
    """Draw a group of answers to one question: the question, the legend, and a film strip per answer.

    Args:
        group: episodes of one sample.
        scores: their rewards.
        max_frames: most frames of a row.
        side: longer side of a frame in pixels.

    Returns:
        ``uint8 (3, h, w)``.
    """
    rows = []
    for member, episode in enumerate(group):
        completion = episode.last.completion
        facts = {name: _number(part[member]) for name, part in scores.parts.items()}
        facts["tokens"] = f"{len(completion.token_ids)}" + ("" if completion.finished else ", cut off")
        rows.append(episode_strip(episode, f"reward {_number(scores.total[member])}", facts, max_frames, side))
    width = max(row.shape[-1] for row in rows)
    title = text_block(group[0].sample.expression, width, size=20, max_lines=3)
    return pad(above([title, legend(), *rows], gap=_MARGIN), _MARGIN, _MARGIN, _MARGIN, _MARGIN)


def film(episode: Episode, side: int = 480) -> Iterator[Tensor]:
    """Draw the segmented frames of an episode one after the other, with the expression below.

    Args:
        episode: what was answered; without masks its frames are shown as they are.
        side: longer side of a frame in pixels.

    Yields:
        ``uint8 (3, h, w)``, all of one size.
    """
    for time in episode.last.mask_frames or range(episode.sample.num_frames):
        yield caption(frame_picture(episode, time, side), episode.sample.expression)


def _number(value: Tensor) -> str:
    return "n/a" if value.isnan() else f"{value.item():.2f}"


def _panel(heading: str, facts: Mapping[str, str]) -> Tensor:
    lines = [
        beside([text_block(name, _NAMES, 13, FAINT, max_lines=1), text_block(value, _VALUES, 13, max_lines=1)])
        for name, value in facts.items()
    ]
    return above([text_block(heading, _NAMES + 8 + _VALUES, size=16, max_lines=1), *lines], gap=3)
