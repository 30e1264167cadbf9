"""What is measured of a video as a whole: when the target is there, and whether it is there at all."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.functional.arguments import as_bits
from evaluation.functional.bitmasks import BitMasks, Masks
from evaluation.functional.regions import region_similarity


def temporal_iou(pred: Masks, target: Masks, wrong: Sequence[int] = ()) -> Tensor:
    """Return the temporal IoU of Long-RVOS (arXiv 2505.12702): the overlap of the frames in which anything is masked.

    ``tIoU = |P & G| / |P | G|`` with P and G the frames whose predicted and annotated mask is not empty, and 1 if there
    are none.

    Args:
        pred: masks of T frames.
        target: masks of T frames.
        wrong: frames that count as answered wrongly: as empty where the target is there, and the reverse.

    Returns:
        ``float64 ()`` in [0, 1].

    Raises:
        ValueError: if the masks are not of one shape.

    Example:
        >>> pred = torch.tensor([[[True]], [[True]], [[False]], [[False]]])
        >>> target = torch.tensor([[[True]], [[False]], [[True]], [[False]]])
        >>> temporal_iou(pred, target)
        tensor(0.3333, dtype=torch.float64)
    """
    p, t = as_bits(pred=pred, target=target)
    both, either = _presence(p, t, wrong)
    return _share(both.sum().double(), either)


def video_iou(pred: Masks, target: Masks, wrong: Sequence[int] = ()) -> Tensor:
    """Return the spatio-temporal IoU of Long-RVOS (arXiv 2505.12702).

    ``vIoU = sum of J over P & G / |P | G|`` with the frames P and G of `temporal_iou`, and 1 if there are none;
    arguments, result and errors as there.

    Example:
        >>> pred = torch.tensor([[[True, True]], [[True, True]]])
        >>> target = torch.tensor([[[True, False]], [[False, False]]])
        >>> video_iou(pred, target)
        tensor(0.2500, dtype=torch.float64)
    """
    p, t = as_bits(pred=pred, target=target)
    both, either = _presence(p, t, wrong)
    times = both.nonzero().flatten().tolist()
    return _share(region_similarity(p.select(times), t.select(times)).sum(), either)


def no_target_accuracy(pred: Masks, wrong: Sequence[int] = ()) -> Tensor:
    """Return N-acc of an expression without a target (MeViSv2, arXiv 2512.10945): 1 if nothing is masked, else 0.

    Args:
        pred: masks of T frames.
        wrong: frames that count as masked.

    Returns:
        ``float64 ()``.

    Example:
        >>> no_target_accuracy(torch.zeros(2, 1, 1, dtype=torch.bool))
        tensor(1., dtype=torch.float64)
    """
    return (~_answered(_shown(pred), wrong, True).any()).double()


def target_accuracy(pred: Masks, wrong: Sequence[int] = ()) -> Tensor:
    """Return T-acc of an expression with a target (MeViSv2, arXiv 2512.10945): 1 if anything is masked, else 0.

    Args:
        pred: masks of T frames.
        wrong: frames that count as empty.

    Returns:
        ``float64 ()``.

    Example:
        >>> target_accuracy(torch.zeros(2, 1, 1, dtype=torch.bool))
        tensor(0., dtype=torch.float64)
    """
    return _answered(_shown(pred), wrong, False).any().double()


def _present(masks: BitMasks) -> Tensor:
    """Return in which frames there is a pixel, ``bool (T,)``."""
    return torch.from_numpy(masks.words.any(axis=(1, 2)))


def _shown(pred: Masks) -> Tensor:
    """Return in which frames there is a pixel, ``bool (T,)``; in none if they are RLEs of which none says a size."""
    if isinstance(pred, Sequence) and all(rle is None for rle in pred):
        return torch.zeros(len(pred), dtype=torch.bool)
    return _present(*as_bits(pred=pred))


def _answered(present: Tensor, wrong: Sequence[int], value: Tensor | bool) -> Tensor:
    """Return in which frames something is masked, with ``value`` at those that are ``wrong``; ``bool (T,)``."""
    index = list(wrong)
    present[index] = value[index] if isinstance(value, Tensor) else value
    return present


def _presence(pred: BitMasks, target: BitMasks, wrong: Sequence[int]) -> tuple[Tensor, Tensor]:
    there = _present(target)
    answered = _answered(_present(pred), wrong, ~there)
    return answered & there, answered | there


def _share(found: Tensor, either: Tensor) -> Tensor:
    return torch.where(either.any(), found / either.sum().clamp(min=1), 1.0)
