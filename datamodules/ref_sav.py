"""Ref-SAV: long and short descriptions of objects of SA-V."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datamodules.mask_dict import MaskDictDataset
from datamodules.sampling import FrameSelection

#: the groups of expressions by ``type_id``
GROUPS = ("long", "short")


class RefSAV(MaskDictDataset):
    """Ref-SAV, the evaluation set of Sa2VA: objects of SA-V described at length and in short.

    Dataset format::

        root/videos/<video>/<frame>.jpg
        root/meta_expressions_valid.json
        root/mask_dict.json

    Args:
        root: folder of the dataset.
        selection: which frames make a sample; default every one.
        groups: groups to keep, of ``long`` and ``short``; None keeps both.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        Sa2VA: Marrying SAM2 with LLaVA for Dense Grounded Understanding of Images and Videos (arXiv 2501.04001),
        https://github.com/bytedance/Sa2VA, ``tools/eval/eval_ref_sav.py``
    """

    group_names = GROUPS
    fields = "`exp`, `anno_id` and `type_id` (0 or 1)"

    def __init__(
        self,
        root: str | Path,
        selection: FrameSelection | None = None,
        groups: Sequence[Literal["long", "short"]] | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        super().__init__(root, "valid", selection, groups, on_bad_sample, seed)

    @property
    def images(self) -> Path:
        """Folder of the videos, each a folder of JPEGs."""
        return self.root / "videos"

    @property
    def expressions_file(self) -> Path:
        """The JSON of expressions."""
        return self.root / "meta_expressions_valid.json"

    @property
    def masks_path(self) -> Path:
        """The JSON of masks."""
        return self.root / "mask_dict.json"

    def group_of(self, expression: dict[str, Any]) -> str:
        """Return the group of an expression, by its ``type_id``."""
        return GROUPS[("0", "1").index(str(expression["type_id"]))]
