"""MeViS: expressions about motion."""

from pathlib import Path
from typing import Any, Literal

from datamodules.mask_dict import MaskDictDataset
from datamodules.sampling import FrameSelection


class MeViS(MaskDictDataset):
    """MeViS: 2,006 videos and 28,570 expressions that tell objects apart by how they move.

    Dataset format::

        root/<split>/JPEGImages/<video>/<frame>.jpg
        root/<split>/meta_expressions.json
        root/<split>/mask_dict.json                 train and valid_u only: the server keeps the masks of valid and test

    Args:
        root: folder of the dataset.
        split: ``train``, ``valid_u``, ``valid`` or ``test``; the last two have no masks.
        selection: which frames make a sample; default every one.
        expressions: name of the file of expressions below the folder of the split.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        MeViS: A Large-scale Benchmark for Video Segmentation with Motion Expressions (ICCV 2023),
        https://github.com/henghuiding/MeViS
    """

    splits = ("train", "valid_u", "valid", "test")

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "valid_u", "valid", "test"] = "train",
        selection: FrameSelection | None = None,
        expressions: str = "meta_expressions.json",
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        super().__init__(root, split, selection, None, on_bad_sample, seed)
        self.expressions = expressions

    @property
    def expressions_file(self) -> Path:
        """The JSON of expressions."""
        return self.root / self.split / self.expressions

    @property
    def masks_path(self) -> Path | None:
        """The JSON of masks, or None where they are hidden."""
        return self.root / self.split / "mask_dict.json" if self.split in ("train", "valid_u") else None

    def group_of(self, expression: dict[str, Any]) -> str | None:
        """Return ``absent`` for an expression that is known to have no target."""
        return None if self.masks_path is None or expression["anno_id"] else "absent"


class MeViSv2(MeViS):
    """MeViSv2: 33,072 expressions about the videos of MeViS, among them some without a target.

    Their group is ``absent``; no other has a group. That expressions have been spoken too is not used.

    Dataset format::

        root/<split>/JPEGImages/<video>/<frame>.jpg
        root/<split>/meta_expressions_v2.json       of valid: meta_expressions_v2_release.json
        root/<split>/mask_dict.json                 train and valid_u only

    Args:
        root: folder of the dataset.
        split: ``train``, ``valid_u``, ``valid`` or ``test``; the last two have no masks.
        selection: which frames make a sample; default every one.
        expressions: name of the file of expressions below the folder of the split; default as above.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        MeViS: A Multi-Modal Dataset for Referring Motion Expression Video Segmentation (arXiv 2512.10945),
        https://huggingface.co/datasets/FudanCVL/MeViSv2
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "valid_u", "valid", "test"] = "train",
        selection: FrameSelection | None = None,
        expressions: str | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        name = "meta_expressions_v2_release.json" if split == "valid" else "meta_expressions_v2.json"
        super().__init__(root, split, selection, expressions or name, on_bad_sample, seed)
