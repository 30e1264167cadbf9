"""Masks that are given together have to fit together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from torch import Tensor

from datamodules.masks import rle_size
from evaluation.functional.bitmasks import BitMasks, Masks


def as_bits(**masks: Masks) -> list[BitMasks]:
    """Return masks of any kind as bits of one shape.

    Args:
        masks: by the names of the arguments; RLEs in which none says a size have that of the others.

    Raises:
        ValueError: if they are not of one shape, or one is nothing that `BitMasks.of` takes.
    """
    size = common_shape(masks, ("bool",))[1:]
    bits = []
    for name, mask in masks.items():
        with _naming(name):
            bits.append(BitMasks.of(mask, size))
    return bits


def common_shape(masks: Mapping[str, Masks], dtypes: tuple[str, ...]) -> tuple[int, int, int]:
    """Return the shape (T, H, W) of masks.

    Args:
        masks: by the names of the arguments.
        dtypes: those that pixels may have.

    Raises:
        ValueError: if they are not of one shape, or of another dtype; all of them are named.
    """
    size = next((shape[1:] for name, mask in masks.items() if len(shape := _shape(name, mask)) == 3), ())
    shapes = [_shape(name, mask, size) for name, mask in masks.items()]
    kinds = [_kind(mask) for mask in masks.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) != 3 or not {*kinds} <= {*dtypes, "RLE"}:
        names = ", ".join(f"`{name}`" for name in masks)
        got = ", ".join(f"{kind} {shape}" for kind, shape in zip(kinds, shapes, strict=True))
        raise ValueError(f"Expected {names} to be {' or '.join(dtypes)} or RLE (T, H, W) of one shape, but got {got}")
    time, height, width = shapes[0]
    return time, height, width


def _shape(name: str, mask: Masks, size: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Return the shape of masks; of RLEs in which none says a size, T and the given one."""
    if isinstance(mask, BitMasks | Tensor | np.ndarray):
        return tuple(mask.shape)
    with _naming(name):
        return len(mask), *next((rle_size(rle) for rle in mask if rle is not None), size)


def _kind(mask: Masks) -> str:
    if isinstance(mask, BitMasks):
        return "bool"
    return str(mask.dtype).removeprefix("torch.") if isinstance(mask, Tensor | np.ndarray) else "RLE"


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Let an error about masks say which argument they are."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from error
