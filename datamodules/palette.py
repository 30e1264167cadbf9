"""Datasets whose masks are palette pictures, the layout of Ref-YouTube-VOS."""

from functools import partial
from pathlib import Path
from typing import Any

from datamodules.dataset import VideoRecord
from datamodules.frames import inside
from datamodules.masks import RLE, Picture
from datamodules.meta_expressions import MetaExpressionsDataset

#: the index of pixels that belong to no object and not to the background
VOID = 255


class PaletteDataset(MetaExpressionsDataset):
    """Videos as folders of JPEGs, one JSON of expressions a split, and a palette PNG for each frame.

    Dataset format::

        root/meta_expressions/<split>/meta_expressions.json
        root/<split>/JPEGImages/<video>/<frame>.jpg
        root/<split>/Annotations/<video>/<frame>.png     index = obj_id of the expression
    """

    fields = "`exp` and, with masks, `obj_id` (an index from 1 to 254)"

    @property
    def expressions_file(self) -> Path:
        """The JSON of expressions."""
        return self.root / "meta_expressions" / self.split / "meta_expressions.json"

    @property
    def masks_path(self) -> Path | None:
        """Folder of the masks, or None where they are hidden."""
        return self.root / self.split / "Annotations"

    def annotation(self, video_id: str, expression_id: str, expression: dict[str, Any]) -> Any:
        """Return the palette index of the object of an expression."""
        label = int(expression["obj_id"])
        if not 1 <= label < VOID:
            raise ValueError(f"the index {label}")
        return label

    def tracks(self, path: Path, record: VideoRecord) -> list[list[RLE | Picture | None]]:
        """Return the mask of the object at each time."""
        return [self.labelled(path, record.annotation, record)]

    def labelled(self, path: Path, label: int, record: VideoRecord) -> list[RLE | Picture | None]:
        """Return the pixels of one palette index at each time.

        Raises:
            BadSampleError: if a name would leave the folder of the masks.
        """
        join = partial(inside, path, record.video_id, record=record.key)
        return [Picture(join(f"{name}.png"), label) for name in record.frame_names]
