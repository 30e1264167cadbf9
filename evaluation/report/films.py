"""The film strip of one expression: frames with what was predicted and what is true."""

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.errors import BadSampleError
from evaluation.drawing import annotate, beside
from evaluation.images import encode_jpeg
from evaluation.predictions import Predictions
from evaluation.results import Result
from evaluation.strips import framed, strip_times


@dataclass(frozen=True)
class Film:
    """The film strip of an expression.

    Args:
        places: which of the measured frames it shows.
        jpeg: the picture, or None if nothing can be drawn.
        notes: what could not be drawn, a sentence each.
    """

    places: list[int]
    jpeg: bytes | None
    notes: list[str]


def film(
    dataset: VideoDataset,
    predictions: Predictions,
    record: VideoRecord,
    result: Result,
    max_frames: int = 6,
    side: int = 224,
) -> Film:
    """Draw a handful of frames of an expression, evenly spaced, among them the worst.

    Where a frame cannot be read, masks are drawn on black.

    Args:
        dataset: where the frames and true masks are.
        predictions: where the predicted masks are.
        record: the expression.
        result: what was measured of it.
        max_frames: most frames of the strip.
        side: longer side of a frame in pixels.
    """
    measured = [*zip(*result.per_frame.values(), strict=True)]
    worst = min(range(len(measured)), key=measured.__getitem__) if measured else None
    places = strip_times(range(len(result.frame_names)), worst, max_frames)
    times = [record.frame_names.index(result.frame_names[place]) for place in places]
    try:
        size = dataset.size(record)
        truths = _truths(dataset, record, times)
    except BadSampleError as error:
        return Film(places, None, [f"No film strip: {error}"])
    frames, notes = _frames(dataset, record, times, size)
    found = predictions.read(record, times, size).prediction
    masks = found.mask.dense()
    cells = []
    for number, (place, frame) in enumerate(zip(places, frames, strict=True)):
        guess = None if number in found.missing else masks[number]
        picture = annotate(frame, guess, None if truths is None else truths[number], side=side)
        cells.append(framed(picture, _label(result, place, guess is None), place == worst))
    return Film(places, encode_jpeg(beside(cells)), notes)


def _truths(dataset: VideoDataset, record: VideoRecord, times: list[int]) -> list[Tensor] | None:
    masks = dataset.masks(record)
    return None if masks is None else [masks(time).any(dim=0) for time in times]


def _frames(
    dataset: VideoDataset, record: VideoRecord, times: list[int], size: tuple[int, int]
) -> tuple[list[Tensor], list[str]]:
    """Return the frames, black where they cannot be read, and why."""
    frames, errors = [], []
    reader = dataset.frames(record)
    for time in times:
        try:
            frames.append(reader(time))
        except BadSampleError as error:
            frames.append(torch.zeros(3, *size, dtype=torch.uint8))
            errors.append(f"{error}")
    return frames, [f"{len(errors)} of {len(times)} frames are drawn on black: {errors[0]}"] if errors else []


def _label(result: Result, place: int, missing: bool) -> str:
    values = [f"{name} {100 * values[place]:.0f}" for name, values in result.per_frame.items()]
    return ", ".join([result.frame_names[place], *values[:2], *(["no prediction"] if missing else [])])
