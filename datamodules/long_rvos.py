"""Long-RVOS: referring expressions about videos of a minute."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datamodules.dataset import VideoRecord
from datamodules.errors import BadSampleError
from datamodules.frames import inside
from datamodules.masks import RLE, Picture
from datamodules.meta_expressions import MetaExpressionsDataset
from datamodules.sampling import FrameSelection

#: the groups of expressions by ``type``: by which attributes they tell the object apart
GROUPS = {"static": "static", "dynamic": "dynamic", "static+dynamic": "hybrid"}


class LongRVOS(MetaExpressionsDataset):
    """Long-RVOS: 2,193 videos, a minute each at 6 Hz, with expressions of three types.

    Dataset format::

        root/<split>/JPEGImages/<video>/<frame>.jpg
        root/<split>/Annotations/<video>/<obj_id>/<frame>.png    train, valid; not 0 = the object; no PNG = absent
        root/<split>/meta_expressions.json

    Args:
        root: folder of the dataset.
        split: ``train``, ``valid`` or ``test``; the last has no masks.
        selection: which frames make a sample; default every one.
        groups: groups to keep, of ``static``, ``dynamic`` and ``hybrid`` (both); None keeps all.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        Long-RVOS: A Comprehensive Benchmark for Long-term Referring Video Object Segmentation (arXiv 2505.12702),
        https://github.com/iSEE-Laboratory/Long_RVOS
    """

    splits = ("train", "valid", "test")
    group_names = tuple(GROUPS.values())
    fields = f"`exp`, `type` ({', '.join(GROUPS)}) and, with masks, `obj_id` (a number or name)"

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "valid", "test"] = "train",
        selection: FrameSelection | None = None,
        groups: Sequence[Literal["static", "dynamic", "hybrid"]] | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        super().__init__(root, split, selection, groups, on_bad_sample, seed)

    @property
    def masks_path(self) -> Path | None:
        """Folder of the masks, or None where they are hidden."""
        return None if self.split == "test" else self.root / self.split / "Annotations"

    def group_of(self, expression: dict[str, Any]) -> str:
        """Return the group of an expression, by its ``type``."""
        return GROUPS[expression["type"]]

    def annotation(self, video_id: str, expression_id: str, expression: dict[str, Any]) -> str:
        """Return the name of the folder of the object."""
        match expression["obj_id"]:
            case int() | str() as name:
                return str(name)
        raise TypeError("`obj_id`")

    def tracks(self, path: Path, record: VideoRecord) -> list[list[RLE | Picture | None]]:
        """Return the mask of the object at each time.

        Raises:
            BadSampleError: if the object has no folder, or a name would leave the folder of the masks.
        """
        folder = inside(path, record.video_id, record.annotation, record=record.key)
        if not folder.is_dir():
            raise BadSampleError(
                f"{record.key!r}: expected a folder `{folder}` with the masks of the object, but there is none",
                "missing masks",
            )
        visible = {picture.stem for picture in folder.glob("*.png")}
        return [[Picture(folder / f"{name}.png") if name in visible else None for name in record.frame_names]]
