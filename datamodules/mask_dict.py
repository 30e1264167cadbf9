"""Datasets of one JSON of expressions and one of run-length masks, the layout ReVOS and MeViS share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.dataset import VideoRecord
from datamodules.errors import BadSampleError
from datamodules.json_index import open_index
from datamodules.masks import RLE, Picture, rle_size
from datamodules.meta_expressions import MetaExpressionsDataset


class MaskDictDataset(MetaExpressionsDataset):
    """Videos as folders of JPEGs, expressions in one JSON, masks in another. A subclass says where.

    An expression names its objects in ``anno_id``, and the masks are ``{anno_id: [RLE or null at each frame in sorted
    order]}``.
    """

    fields = "`exp` and, with masks, `anno_id`"

    @property
    def mask_dicts(self) -> list[Path]:
        """Every JSON of masks that is read if it is there."""
        return [] if self.masks_path is None else [self.masks_path]

    def records(self) -> Iterator[VideoRecord]:
        """Return every expression, in the order of the file; the JSON of masks is parsed here if it never was.

        Raises:
            ValueError: if a file has another layout.
        """
        for path in self.mask_dicts:
            if path.exists():
                open_index(path)  # before there are workers, each of which would find that it has to be parsed
        yield from super().records()

    def annotation(self, video_id: str, expression_id: str, expression: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the objects of an expression."""
        names = expression["anno_id"]
        if not isinstance(names, list):
            raise TypeError(f"`anno_id` is a {type(names).__name__}, no list")
        return tuple(map(str, names))

    def size(self, record: VideoRecord) -> tuple[int, int]:
        """Return height and width of the video: of its first frame or, where that is not on disk, of its masks.

        Raises:
            BadSampleError: if there is neither, or one that cannot be read.
        """
        try:
            return super().size(record)
        except BadSampleError as error:
            tracks = [] if self.masks_path is None else self.tracks(self.masks_path, record)
            masks = [mask for track in tracks if isinstance(track, list) for mask in track if isinstance(mask, dict)]
            if not masks or error.reason != "missing frame":
                raise
        try:
            return rle_size(masks[0])
        except ValueError as error:
            raise BadSampleError(f"{record.key!r}: {error}", "malformed mask") from error

    def tracks(self, path: Path, record: VideoRecord) -> list[list[RLE | Picture | None]]:
        """Return the mask of each object at each time.

        Raises:
            BadSampleError: if there is no such annotation.
        """
        return [self.track(path, name, record) for name in record.annotation]

    def track(self, path: Path, name: str, record: VideoRecord) -> list[RLE | Picture | None]:
        """Return the masks of one object, by its name in a JSON of masks.

        Raises:
            BadSampleError: if there is no such annotation.
        """
        try:
            return open_index(path)[name]  # type: ignore[no-any-return]
        except KeyError as error:
            raise BadSampleError(
                f"{record.key!r} in `{self.expressions_file}`: expected annotation {name!r} in `{path}`, but it has "
                "none of that name",
                "unknown annotation",
            ) from error
