"""Ref-DAVIS17: referring expressions about DAVIS 2017, four for each object."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datamodules.dataset import VideoRecord
from datamodules.mask_dict import MaskDictDataset
from datamodules.masks import RLE, Picture, UnionReader
from datamodules.palette import VOID, PaletteDataset
from datamodules.sampling import FrameSelection

#: sets of sentences: two annotators, each of the first frame and of the full video
ANNOTATORS = 4
#: videos that the text files misname
_NAMES = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}


class RefDAVIS17(PaletteDataset, MaskDictDataset):
    """Ref-DAVIS17: 60 videos for training and 30 for validation, with four expressions about each object.

    Dataset format, as ``convert_davis_to_ytvos.py`` of ReferFormer writes it::

        root/meta_expressions/<split>/meta_expressions.json
        root/<split>/JPEGImages/<video>/<frame>.jpg
        root/<split>/Annotations/<video>/<frame>.png     DAVIS' Annotations_unsupervised: index = obj_id, 255 = void
        root/<split>/mask_dict.json                      only with ``layout="mask_dict"``

    VISA and what derives from it read ``mask_dict.pkl`` instead of the pictures: a track for each expression, numbered
    over the sorted videos and their expressions, sorted as text; it knows no void. Pickles are not opened, because that
    can run code: the layout ``mask_dict`` reads the same content from a JSON. The pictures hold the same masks.

    Args:
        root: folder of the dataset.
        split: ``train`` or ``valid``.
        selection: which frames make a sample; default every one.
        layout: where masks come from; ``palette`` are the pictures.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        Video Object Segmentation with Language Referring Expressions (ACCV 2018); conversion of
        https://github.com/wjn922/ReferFormer, ``mask_dict`` of https://github.com/cilinyan/VISA
    """

    splits = ("train", "valid")

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "valid"] = "train",
        selection: FrameSelection | None = None,
        layout: Literal["palette", "mask_dict"] = "palette",
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        if layout not in ("palette", "mask_dict"):
            raise ValueError(f"Expected `layout` of RefDAVIS17 to be 'palette' or 'mask_dict', but got {layout!r}")
        super().__init__(root, split, selection, None, on_bad_sample, seed)
        self.layout = layout

    @staticmethod
    def place(record: VideoRecord) -> tuple[int, int]:
        """Return who said an expression and about which object: annotator 0 to 3, and the object's label from 1.

        >>> RefDAVIS17.place(VideoRecord("dogs-jump", "6", "the brown dog", ()))
        (2, 2)
        """
        number = int(record.expression_id)
        return number % ANNOTATORS, number // ANNOTATORS + 1

    @property
    def masks_path(self) -> Path:
        """The folder or the JSON of masks."""
        return self.root / self.split / ("Annotations" if self.layout == "palette" else "mask_dict.json")

    @property
    def videos(self) -> dict[str, Any]:
        """The videos of the split, checked, by the names of their folders."""
        videos = super().videos
        named = {name: right for name, right in _NAMES.items() if right not in videos}
        return {named.get(name, name): video for name, video in videos.items()}

    @property
    def mask_dicts(self) -> list[Path]:
        """Every JSON of masks that is read if it is there."""
        return super().mask_dicts if self.layout == "mask_dict" else []

    def annotation(self, video_id: str, expression_id: str, expression: dict[str, Any]) -> Any:
        """Return the palette index of the object of an expression, or the name of its track."""
        if self.layout == "mask_dict":
            return (str(self._numbers[video_id, expression_id]),)
        return PaletteDataset.annotation(self, video_id, expression_id, expression)

    def tracks(self, path: Path, record: VideoRecord) -> list[list[RLE | Picture | None]]:
        """Return the mask of the object at each time.

        Raises:
            BadSampleError: if there is no such track.
        """
        if self.layout == "mask_dict":
            return MaskDictDataset.tracks(self, path, record)
        return PaletteDataset.tracks(self, path, record)

    def void(self, record: VideoRecord) -> UnionReader | None:
        """Return the reader of the pixels that do not count, or None where they are not known."""
        if self.layout == "mask_dict":
            return None
        return UnionReader(self.reader([self.labelled(self.masks_path, VOID, record)], record, "void"))

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], int]:
        """The running number of each expression."""
        videos = sorted(self.videos.items())
        keys = [(name, number) for name, video in videos for number in sorted(video["expressions"])]
        return {key: place for place, key in enumerate(keys)}
