"""Run-length codes and index pictures, and the boolean masks they stand for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from torch import Tensor

from datamodules.errors import UNREADABLE, BadSampleError

#: COCO run-length code: ``{"size": [H, W], "counts": str | bytes | list[int]}``, column by column
RLE = dict[str, Any]


class Picture(NamedTuple):
    """A mask that is stored as a palette or gray picture.

    Args:
        path: the picture.
        label: palette index (or gray value) of the object; None takes everything that is not 0.
    """

    path: Path
    label: int | None = None


_FIRST_CHARACTER = 48
_MOST_CHARACTERS = 7  # of one number: 35 bits, more than any picture needs


def rle_counts(rle: RLE) -> NDArray[np.int64]:
    """Return the checked run lengths of a COCO RLE, background first.

    They are checked here because ``pycocotools`` reads uninitialised memory where the runs do not fill the picture.

    Args:
        rle: compressed (``counts`` a string) or uncompressed (``counts`` a list).

    Returns:
        ``int64 (K,)``, non-negative, of sum H * W.

    Raises:
        ValueError: if ``rle`` is not a run-length code of a picture of its ``size``.
    """
    height, width = rle_size(rle)
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        runs = _decompress(counts.encode("ascii", "replace") if isinstance(counts, str) else counts)
    elif isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        # No sum of what is at most one more than the picture can come round to its size, as one of int64 could.
        runs = np.asarray([max(-1, min(count, height * width + 1)) for count in counts], dtype=np.int64)
    else:
        raise ValueError(
            f"Expected `counts` of an RLE to be a string or a list of int, but got {type(counts).__name__}"
        )
    if runs.min(initial=0) < 0 or runs.sum() != height * width:
        raise ValueError(f"Expected the runs of an RLE to fill {height} x {width} pixels, but got {runs.sum()}")
    return runs


def rle_size(rle: RLE) -> tuple[int, int]:
    """Return height and width of an RLE.

    Raises:
        ValueError: if ``rle`` has no valid ``size``.
    """
    size = rle.get("size") if isinstance(rle, dict) else None
    match size:
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
    raise ValueError(f"Expected an RLE with `size` [height, width], but got {size!r} in a {type(rle).__name__}")


def _decompress(text: bytes) -> NDArray[np.int64]:
    """Parse COCO's compressed counts: 5 bits a character, low first, then differences to the count before the last."""
    bits = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if not len(bits):
        return bits
    last = (bits & 32) == 0
    ends = np.flatnonzero(last) + 1
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if bits.min() < 0 or bits.max() > 63 or not last[-1] or lengths.max() > _MOST_CHARACTERS:
        raise ValueError("Expected `counts` of an RLE to be COCO's compressed counts, but got a malformed string")
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, lengths))
    values = np.add.reduceat((bits & 31) << shifts, starts)
    values -= ((bits[ends - 1] & 16) > 0) * (np.int64(1) << (5 * lengths))
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    return values


def decode_rle(rle: RLE) -> Tensor:
    """Return the mask of an RLE, ``bool (H, W)``.

    Raises:
        ValueError: if ``rle`` is not a run-length code of a picture of its ``size``.
    """
    runs = rle_counts(rle)
    height, width = rle_size(rle)
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height)
    return torch.from_numpy(columns.T.copy())


def encode_rle(mask: Tensor) -> RLE:
    """Return the compressed RLE of a mask, with ``counts`` as text so that JSON can hold it.

    Args:
        mask: ``bool (H, W)``.
    """
    rle = coco.encode(np.asfortranarray(mask.cpu().numpy(), dtype=np.uint8))
    return {"size": [int(extent) for extent in rle["size"]], "counts": rle["counts"].decode("ascii")}


def rle_area(rle: RLE) -> int:
    """Return the number of foreground pixels, without decoding to pixels.

    Raises:
        ValueError: if ``rle`` is not a run-length code of a picture of its ``size``.
    """
    return int(rle_counts(rle)[1::2].sum())


def union_area(rles: Sequence[RLE]) -> int:
    """Return the number of pixels that any of the RLEs covers, without decoding to pixels.

    Raises:
        ValueError: if one is not a run-length code of a picture of its ``size``, or the sizes differ.
    """
    if len(rles) < 2:
        return sum(rle_area(rle) for rle in rles)
    if len({rle_size(rle) for rle in rles}) > 1:
        raise ValueError(f"Expected RLEs of one size, but got {[rle_size(rle) for rle in rles]}")
    areas = [rle_area(rle) for rle in rles]  # checks the runs, which `merge` would trust
    if min(areas) == 0:
        return union_area([rle for rle, area in zip(rles, areas, strict=True) if area])
    return int(coco.area(coco.merge([_compressed(rle) for rle in rles])))


def _compressed(rle: RLE) -> RLE:
    return coco.frPyObjects(rle, *rle_size(rle)) if isinstance(rle["counts"], list) else rle


def decode_picture(picture: Picture) -> Tensor:
    """Read a mask from a palette or gray picture, ``bool (H, W)``.

    Raises:
        ValueError: if the picture cannot be read, or is not one channel of indices.
    """
    try:
        with Image.open(picture.path) as image:
            if image.mode not in ("P", "L", "1"):
                raise ValueError(f"Expected a palette or gray picture, but got mode {image.mode!r}")
            pixels = torch.from_numpy(np.array(image))
    except UNREADABLE as error:
        raise ValueError(f"Expected a mask in `{picture.path}`, but got: {error}") from error
    return pixels != 0 if picture.label is None else pixels == picture.label


class MaskReader:
    """Reads the masks of one expression: a picklable function from a time to ``bool (N, H, W)``.

    Args:
        tracks: for each of N objects, its mask at each time: an RLE, a picture, or None where it is absent.
        size: height and width of the video.
        length: number of frames of the video.
        record: name of the record, for messages.

    Raises:
        BadSampleError: if a track has another length than the video, or an RLE another size.
    """

    def __init__(
        self, tracks: Sequence[Sequence[RLE | Picture | None]], size: tuple[int, int], length: int, record: str
    ) -> None:
        self.size = size
        self.record = record
        self._tracks = tracks
        self._length = length
        for number, track in enumerate(tracks):
            self._check_track(number, track)

    def __len__(self) -> int:
        return self._length

    @property
    def num_objects(self) -> int:
        """Number of annotated objects, N."""
        return len(self._tracks)

    def __call__(self, time: int) -> Tensor:
        """Return the masks at a time, ``bool (N, H, W)``.

        Raises:
            BadSampleError: if a mask cannot be read.
        """
        masks = torch.zeros(self.num_objects, *self.size, dtype=torch.bool)
        for number, track in enumerate(self._tracks):
            cell = track[time]
            if cell is not None:
                masks[number] = self._decode(cell, number, time)
        return masks

    def select(self, times: Sequence[int]) -> "MaskReader":
        """Return the reader of some of the frames, in that order; it carries no other frame's masks."""
        tracks = [[track[time] for time in times] for track in self._tracks]
        return MaskReader(tracks, self.size, len(times), self.record)

    def cells(self, number: int) -> Sequence[RLE | Picture | None]:
        """Return the masks of one object as they are stored."""
        return self._tracks[number]

    def areas(self) -> list[int]:
        """Return the area of the union of all objects at each time, in pixels; RLEs are not decoded to pixels.

        Raises:
            BadSampleError: if a mask cannot be read.
        """
        return [self._area(time) for time in range(len(self))]

    def verify(self) -> None:
        """Check every mask and keep none.

        Raises:
            BadSampleError: if a mask cannot be read.
        """
        for time in range(len(self)):
            self._area(time)

    def _area(self, time: int) -> int:
        cells = [cell for track in self._tracks if (cell := track[time]) is not None]
        rles = [cell for cell in cells if not isinstance(cell, Picture)]
        if len(rles) < len(cells):
            return int(self(time).any(dim=0).sum())
        try:
            return union_area(rles)
        except ValueError as error:
            raise BadSampleError(f"{self.record}, time {time}: {error}", "malformed mask") from error

    def _decode(self, cell: RLE | Picture, number: int, time: int) -> Tensor:
        try:
            mask = decode_picture(cell) if isinstance(cell, Picture) else decode_rle(cell)
        except ValueError as error:
            raise BadSampleError(f"{self._place(number, time)}: {error}", "malformed mask") from error
        self._check_size(mask.shape, number, time)
        return mask

    def _check_track(self, number: int, track: Sequence[RLE | Picture | None]) -> None:
        got = f"{len(track)}" if isinstance(track, list | tuple) else f"a {type(track).__name__}"
        if got != f"{self._length}":
            raise BadSampleError(
                f"{self.record}, object {number}: expected one mask or null for each of the {self._length} frames, "
                f"but got {got}",
                "annotation length",
            )
        for time, cell in enumerate(track):
            if cell is None or isinstance(cell, Picture):
                continue
            try:
                size = rle_size(cell)
            except ValueError as error:
                raise BadSampleError(f"{self._place(number, time)}: {error}", "malformed mask") from error
            self._check_size(size, number, time)

    def _check_size(self, size: Sequence[int], number: int, time: int) -> None:
        if tuple(size) != self.size:
            raise BadSampleError(
                f"{self._place(number, time)}: expected a mask of the size of the video, "
                f"{self.size[0]} x {self.size[1]} (height x width), but got {size[0]} x {size[1]}",
                "mask size",
            )

    def _place(self, number: int, time: int) -> str:
        return f"{self.record}, object {number}, time {time}"


class UnionReader:
    """Reads the union of all objects: a picklable function from a time to ``bool (H, W)``."""

    def __init__(self, masks: MaskReader) -> None:
        self.masks = masks

    def select(self, times: Sequence[int]) -> "UnionReader":
        """Return the reader of some of the frames, in that order."""
        return UnionReader(self.masks.select(times))

    def __call__(self, time: int) -> Tensor:
        """Return the union at a time, ``bool (H, W)``."""
        return self.masks(time).any(dim=0)
