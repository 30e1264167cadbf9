"""ReVOS: referring and reasoning expressions about videos."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datamodules.dataset import VideoRecord
from datamodules.errors import BadSampleError
from datamodules.json_index import open_index
from datamodules.mask_dict import MaskDictDataset
from datamodules.masks import UnionReader
from datamodules.sampling import FrameSelection

#: the groups of expressions by ``type_id``; absent: nothing in the video answers to the expression
GROUPS = ("referring", "reasoning", "absent")


class ReVOS(MaskDictDataset):
    """ReVOS: 1,042 videos (626 train, 416 valid) and 35,074 expressions, referring, reasoning and without a target.

    Dataset format::

        root/JPEGImages/<video>/<frame>.jpg        the name of a video may contain slashes
        root/meta_expressions_train_.json          and meta_expressions_valid_.json
        root/mask_dict.json                        masks of both splits
        root/mask_dict_foreground.json             union of all annotated objects, for the metric R; may be missing

    Args:
        root: folder of the dataset.
        split: ``train`` or ``valid``.
        selection: which frames make a sample; default every one.
        groups: groups to keep, of ``referring``, ``reasoning`` and ``absent``. None keeps the first two in the training
            split, as Veason-R1 trains, and all of them in the other.
        expressions: name of another file of expressions below ``root``: Veason-R1 trains on
            ``meta_expressions_train_select.json``.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        VISA: Reasoning Video Object Segmentation via Large Language Models (ECCV 2024), https://github.com/cilinyan/ReVOS-api
    """

    splits = ("train", "valid")
    group_names = GROUPS
    fields = "`exp`, `anno_id` and `type_id` (0, 1 or 2)"

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "valid"] = "train",
        selection: FrameSelection | None = None,
        groups: Sequence[str] | None = None,
        expressions: str | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        if groups is None and split == "train":
            groups = ("referring", "reasoning")
        super().__init__(root, split, selection, groups, on_bad_sample, seed)
        self.expressions = expressions or f"meta_expressions_{split}_.json"

    @property
    def images(self) -> Path:
        """Folder of the videos, each a folder of JPEGs."""
        return self.root / "JPEGImages"

    @property
    def expressions_file(self) -> Path:
        """The JSON of expressions."""
        return self.root / self.expressions

    @property
    def masks_path(self) -> Path:
        """The JSON of masks."""
        return self.root / "mask_dict.json"

    @property
    def mask_dicts(self) -> list[Path]:
        """Every JSON of masks that is read if it is there."""
        return [self.masks_path, self._foreground_file]

    def group_of(self, expression: dict[str, Any]) -> str:
        """Return the group of an expression, by its ``type_id``."""
        return GROUPS[("0", "1", "2").index(str(expression["type_id"]))]

    def foreground(self, record: VideoRecord) -> UnionReader:
        """Return the union of every object that any expression of the video names.

        It is read from ``mask_dict_foreground.json`` where that has the video, and else made from its definition.

        Raises:
            BadSampleError: if it does not fit the video.
        """
        stored = self._foreground.get(record.video_id)
        if stored is None:
            tracks = [self.track(self.masks_path, name, record) for name in self._annotations[record.video_id]]
        else:
            tracks = [_masks(stored, record)]
        return UnionReader(self.reader(tracks, record, "foreground"))

    @property
    def _foreground_file(self) -> Path:
        return self.root / "mask_dict_foreground.json"

    @property
    def _foreground(self) -> Mapping[str, Any]:
        return open_index(self._foreground_file) if self._foreground_file.exists() else {}

    @cached_property
    def _annotations(self) -> dict[str, list[str]]:
        """Names of the objects of each video, in the order in which expressions name them."""
        return {
            video_id: list(
                dict.fromkeys(str(name) for each in video["expressions"].values() for name in each["anno_id"])
            )
            for video_id, video in self.videos.items()
        }


def _masks(stored: Any, record: VideoRecord) -> Any:
    if isinstance(stored, dict) and "masks_rle" in stored:
        return stored["masks_rle"]
    raise BadSampleError(
        f"{record.key!r}: expected `masks_rle` in `mask_dict_foreground.json`, but got {str(stored)[:80]}",
        "malformed mask",
    )
