"""ReasonSeg: questions about images that have to be thought about."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.dataset import VideoRecord
from datamodules.errors import BadSampleError
from datamodules.image_dataset import ImageDataset
from datamodules.json_fields import read_field, read_list
from datamodules.masks import MaskReader, UnionReader, encode_rle
from datamodules.polygons import paint_polygon
from datamodules.sampling import FrameSelection

_TARGET, _IGNORED = 1, 255


class ReasonSeg(ImageDataset):
    """ReasonSeg: 1,218 images (239 train, 200 val, 779 test) with implicit queries, phrases or sentences.

    Dataset format::

        root/<split>/<image>.jpg
        root/<split>/<image>.json

    ``{"text": [str], "is_sentence": bool, "shapes": [{"label": "target", "points": [[x, y]]}]}``, in UTF-8 or
    Windows-1252. Shapes are painted over one another, the largest first, as LISA does: those whose label contains
    ``ignore`` are void, those called ``flag`` do not count, all others are the target.

    Args:
        root: folder of the dataset, the one called ``ReasonSeg``.
        split: ``train``, ``val`` or ``test``.
        selection: which frames make a sample; there is one.
        groups: groups to keep, of ``short`` (phrases) and ``long`` (sentences); None keeps both.
        texts: how many of an image's texts, which say the same in other words: the ``first``, as LISA evaluates, or
            ``all``. None is all of them in the training split and the first in the others.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        LISA: Reasoning Segmentation via Large Language Model (CVPR 2024), https://github.com/dvlab-research/LISA
    """

    splits = ("train", "val", "test")
    group_names = ("short", "long")

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "test"] = "train",
        selection: FrameSelection | None = None,
        groups: Sequence[str] | None = None,
        texts: Literal["first", "all"] | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        if texts not in ("first", "all", None):
            raise ValueError(f"Expected `texts` of ReasonSeg to be 'first', 'all' or None, but got {texts!r}")
        super().__init__(root, split, selection, groups, on_bad_sample, seed)
        self.texts = texts or ("all" if split == "train" else "first")

    @property
    def images(self) -> Path:
        """Folder of the images and their annotations."""
        return self.root / self.split

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return [self.images, *(path.with_suffix(".json") for path in self.images.glob("*.jpg"))]

    def records(self) -> Iterator[VideoRecord]:
        """Return every text, image by image in the order of their names.

        Raises:
            ValueError: if a file has another layout.
        """
        for path in sorted(self.images.glob("*.jpg")):
            content, where = self._content(path.stem)
            texts = read_list(content, "text", str, where)
            group = "long" if read_field(content, "is_sentence", bool, where) else "short"
            for shape in read_field(content, "shapes", list, where):
                read_field(shape, "label", str, f"a shape in {where}")
                read_field(shape, "points", list, f"a shape in {where}")
            for number, text in enumerate(texts[:1] if self.texts == "first" else texts):
                yield self.record(path.stem, number, text, group)

    def masks(self, record: VideoRecord) -> MaskReader:
        """Return the reader of the target's mask.

        Raises:
            BadSampleError: if a shape is no polygon.
        """
        return self._mask(self._paint(record) == _TARGET, record)

    def void(self, record: VideoRecord) -> UnionReader | None:
        """Return the reader of the pixels that do not count, or None if all do.

        Raises:
            BadSampleError: if a shape is no polygon.
        """
        ignored = self._paint(record) == _IGNORED
        return UnionReader(self._mask(ignored, record, "void")) if ignored.any() else None

    def _mask(self, mask: NDArray[np.bool_], record: VideoRecord, of: str = "") -> MaskReader:
        return self.reader([[encode_rle(torch.from_numpy(mask))]], record, of)

    def _paint(self, record: VideoRecord) -> NDArray[np.uint8]:
        """Return the labels of the pixels, ``uint8 (H, W)``: 0, target or ignored."""
        content, where = self._content(record.video_id)
        shapes = [shape for shape in content["shapes"] if shape["label"].lower() != "flag"]
        labels = [_IGNORED if "ignore" in shape["label"].lower() else _TARGET for shape in shapes]
        size = self.frames(record).size
        canvas = np.zeros(size, np.uint8)
        try:
            areas = [np.count_nonzero(paint_polygon(np.zeros(size, np.uint8), shape["points"], 1)) for shape in shapes]
            for number in np.argsort(areas)[::-1]:
                paint_polygon(canvas, shapes[number]["points"], labels[number])
        except ValueError as error:
            raise BadSampleError(
                f"{record.key!r}, `points` of a shape in {where}: {error}", "malformed mask"
            ) from error
        return canvas

    def _content(self, image: str) -> tuple[Any, str]:
        """Return what is annotated of an image, and the file's name for messages."""
        path = self.images / f"{image}.json"
        try:
            return json.loads(_decode(path.read_bytes())), f"`{path}`"
        except ValueError as error:
            raise ValueError(f"Expected JSON in `{path}`, but got: {error}") from error


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252")  # some of the published files
