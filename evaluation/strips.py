"""Film strips: which frames they show, and how."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.drawing import BOX, FAINT, PAPER, above, pad, text_block


def strip_times(times: Sequence[int], wanted: int | None, max_frames: int) -> list[int]:
    """Choose the frames of a film strip: evenly spaced, both ends included, and the wanted in any case.

    Args:
        times: time indices to choose from, ascending.
        wanted: time index that must not be missing, or None.
        max_frames: most frames to choose.

    Returns:
        Ascending time indices; the wanted replaces the one nearest to it.
    """
    spaced = torch.linspace(0, len(times) - 1, min(max_frames, len(times))).round().int().tolist()
    chosen = [times[place] for place in spaced]
    if wanted is not None and wanted not in chosen:
        if len(chosen) < max_frames:
            chosen.append(wanted)
        else:
            chosen[min(range(len(chosen)), key=lambda place: abs(chosen[place] - wanted))] = wanted
    return sorted(chosen)


def framed(picture: Tensor, label: str, marked: bool) -> Tensor:
    """Put a label above a picture, and the colour of boxes around it if it is ``marked``.

    Returns:
        ``uint8 (3, h + 24, w + 6)``: a label that is too long for the picture is cut.
    """
    edge, ink = (BOX, BOX) if marked else (PAPER, FAINT)
    cell = pad(picture, 3, 3, 3, 3, edge)
    return above([text_block(label, cell.shape[-1], size=12, colour=ink, max_lines=1), cell], gap=2)
