"""Films of one row of pixels, on which every measure can be counted by hand."""

import torch

from evaluation import Prediction, Truth
from evaluation.functional import BitMasks

WIDTH = 40


def film(*spans):
    """One frame per span: pixels start to stop are masked, or the first so many, or none."""
    pixels = torch.arange(WIDTH)
    frames = []
    for span in spans:
        start, stop = span if isinstance(span, tuple) else (0, span)
        frames.append((pixels >= start) & (pixels < stop))
    return BitMasks.of(torch.stack(frames)[:, None])


def truth(*objects, frames=2, foreground=None, void=None):
    return Truth((objects[0].shape[0] if objects else frames, 1, WIDTH), objects, foreground, void)


def prediction(*tracks, frames=2, missing=(), lost=None):
    return Prediction((tracks[0].shape[0] if tracks else frames, 1, WIDTH), tracks, tuple(missing), lost)


def nothing(frames=2, lost="expression"):
    """Nothing was found for an expression."""
    return prediction(frames=frames, missing=range(frames), lost=lost)


def rows(protocol, *scored):
    """Rows by group of (prediction, truth, group), as what counts them keeps them."""
    found = {}
    for case in scored:
        for scores in protocol.score(*case):
            found.setdefault(scores.group, []).append(scores.row)
    return found


def table(protocol, *scored):
    return protocol.table(rows(protocol, *scored))
