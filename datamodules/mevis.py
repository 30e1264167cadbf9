"""MeViS: expressions about motion."""

from pathlib import Path
from typing import Literal

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
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        MeViS: A Large-scale Benchmark for Video Segmentation with Motion Expressions (ICCV 2023),
        https://github.com/henghuiding/MeViS
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "valid_u", "valid", "test"] = "train",
        selection: FrameSelection | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        if split not in ("train", "valid_u", "valid", "test"):
            raise ValueError(f"Expected `split` of MeViS to be train, valid_u, valid or test, but got {split!r}")
        super().__init__(root, split, selection, None, on_bad_sample, seed)

    @property
    def images(self) -> Path:
        """Folder of the videos, each a folder of JPEGs."""
        return self.root / self.split / "JPEGImages"

    @property
    def expressions_file(self) -> Path:
        """The JSON of expressions."""
        return self.root / self.split / "meta_expressions.json"

    @property
    def masks_file(self) -> Path | None:
        """The JSON of masks, or None where they are hidden."""
        return self.root / self.split / "mask_dict.json" if self.split in ("train", "valid_u") else None
