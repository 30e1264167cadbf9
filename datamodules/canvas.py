"""Boxes on the square canvas a paper speaks, and boxes in canonical pixels."""

import torch
from torch import Tensor


def to_canvas(boxes: Tensor, size: tuple[int, int], canvas: float) -> Tensor:
    """Convert canonical boxes to a square canvas, in Veason-R1's convention.

    ``c1 = x1 * s + 0.5`` and ``c2 = (x2 - 1) * s + 0.5`` with ``s = canvas / extent`` of the axis: the canvas names the
    first and the last covered pixel, whereas canonical boxes are half-open. Neither rounded nor clipped.

    Args:
        boxes: ``(M, 4)`` xyxy in pixels of the frame, half-open.
        size: height and width of the frame in pixels.
        canvas: side of the canvas: 560 for Veason-R1, 1000 for Qwen3-VL's grid.

    Returns:
        ``float64 (M, 4)`` xyxy on the canvas.

    Raises:
        ValueError: if ``boxes``, ``size`` or ``canvas`` cannot be scaled.

    Reference:
        Veason-R1 (CVPR 2026), box ground truth of the released training data.
    """
    scale = _scale(boxes, size, canvas)
    return (boxes.double() - _LAST_PIXEL) * scale + 0.5


def from_canvas(boxes: Tensor, size: tuple[int, int], canvas: float) -> Tensor:
    """Convert boxes on a square canvas to canonical boxes: the exact inverse of `to_canvas`.

    Args:
        boxes: ``(M, 4)`` xyxy on the canvas.
        size: height and width of the frame in pixels.
        canvas: side of the canvas.

    Returns:
        ``float64 (M, 4)`` xyxy in pixels of the frame, half-open; neither rounded nor clipped.

    Raises:
        ValueError: if ``boxes``, ``size`` or ``canvas`` cannot be scaled.
    """
    scale = _scale(boxes, size, canvas)
    return (boxes.double() - 0.5) / scale + _LAST_PIXEL


#: what the half-open convention adds to the last covered pixel, per coordinate of xyxy
_LAST_PIXEL = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)


def _scale(boxes: Tensor, size: tuple[int, int], canvas: float) -> Tensor:
    height, width = size
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        raise ValueError(f"Expected `boxes` to be of shape (M, 4), but got {tuple(boxes.shape)}")
    if height <= 0 or width <= 0 or canvas <= 0:
        raise ValueError(f"Expected `size` and `canvas` to be positive, but got {size} and {canvas}")
    return torch.tensor([canvas / width, canvas / height] * 2, dtype=torch.float64)
