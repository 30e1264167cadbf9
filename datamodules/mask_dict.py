"""Datasets of one JSON of expressions and one of run-length masks, the layout ReVOS and MeViS share."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.dataset import VideoDataset, VideoRecord, read_json
from datamodules.errors import BadSampleError
from datamodules.json_index import open_index
from datamodules.masks import RLE, MaskReader, rle_size


class MaskDictDataset(VideoDataset):
    """Videos as folders of JPEGs, expressions in one JSON, masks in another. A subclass says where.

    The expressions are ``{"videos": {video: {"frames": [name], "expressions": {id: {"exp": str, "anno_id": [int]}}}}}``
    and the masks ``{anno_id: [RLE or null at each frame in sorted order]}``.
    """

    @property
    @abstractmethod
    def expressions_file(self) -> Path:
        """The JSON of expressions."""

    @property
    @abstractmethod
    def masks_file(self) -> Path | None:
        """The JSON of masks, or None where they are hidden."""

    @property
    def mask_dicts(self) -> list[Path]:
        """Every JSON of masks that is read if it is there."""
        return [] if self.masks_file is None else [self.masks_file]

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return [path for path in (self.images, self.expressions_file, self.masks_file) if path is not None]

    def records(self) -> Iterator[VideoRecord]:
        """Return every expression, in the order of the file; the JSON of masks is parsed here if it never was.

        Raises:
            ValueError: if a file has another layout.
        """
        for path in self.mask_dicts:
            if path.exists():
                open_index(path)  # before there are workers, each of which would find that it has to be parsed
        for video_id, video in self.videos.items():
            names = tuple(sorted(video["frames"]))
            for expression_id, expression in video["expressions"].items():
                try:
                    yield self.record(video_id, expression_id, expression, names)
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(
                        f"Expected expression {expression_id!r} of {video_id!r} in `{self.expressions_file}` to have "
                        f"`exp` and, with masks, `anno_id`, but got {expression!r} ({error})"
                    ) from error

    def record(
        self, video_id: str, expression_id: str, expression: dict[str, Any], names: tuple[str, ...]
    ) -> VideoRecord:
        """Return the record of one expression."""
        annotation = None if self.masks_file is None else tuple(str(name) for name in expression["anno_id"])
        return VideoRecord(video_id, expression_id, str(expression["exp"]), names, annotation=annotation)

    @property
    def videos(self) -> dict[str, Any]:
        """The videos of the JSON of expressions, checked.

        Raises:
            ValueError: if the file has another layout.
        """
        content = read_json(self.expressions_file)
        videos = content.get("videos") if isinstance(content, dict) else None
        if not isinstance(videos, dict):
            raise ValueError(f"Expected `{self.expressions_file}` to hold an object with `videos`, but got none")
        for name, video in videos.items():
            match video:
                case {"frames": [*frames], "expressions": {}} if all(isinstance(frame, str) for frame in frames):
                    continue
            raise ValueError(
                f"Expected video {name!r} in `{self.expressions_file}` to have `frames` (a list of names) and "
                f"`expressions` (an object), but got {str(video)[:200]}"
            )
        return videos

    def masks(self, record: VideoRecord) -> MaskReader | None:
        """Return the reader of all frames' masks, or None where they are hidden.

        Raises:
            BadSampleError: if an annotation is missing or does not fit the video.
        """
        if self.masks_file is None:
            return None
        tracks = [self.track(name, record) for name in record.annotation]
        return MaskReader(tracks, self.size(record), len(record.frame_names), record.key)

    def size(self, record: VideoRecord) -> tuple[int, int]:
        """Return height and width of the video: of its first frame or, where that is not on disk, of its masks.

        Raises:
            BadSampleError: if there is neither, or the frame cannot be read.
        """
        try:
            return super().size(record)
        except BadSampleError as error:
            names = () if self.masks_file is None or error.reason != "missing frame" else record.annotation
            tracks = [self.track(name, record) for name in names]
            masks = [mask for track in tracks if isinstance(track, list) for mask in track if mask is not None]
            if not masks:
                raise
        try:
            return rle_size(masks[0])
        except ValueError as error:
            raise BadSampleError(f"{record.key!r}: {error}", "malformed mask") from error

    def track(self, annotation_id: str, record: VideoRecord) -> list[RLE | None]:
        """Return the masks of one object.

        Raises:
            BadSampleError: if there is no such annotation.
        """
        assert self.masks_file is not None
        try:
            return open_index(self.masks_file)[annotation_id]  # type: ignore[no-any-return]
        except KeyError as error:
            raise BadSampleError(
                f"{record.key!r} in `{self.expressions_file}`: expected annotation {annotation_id!r} in "
                f"`{self.masks_file}`, but it has none of that name",
                "unknown annotation",
            ) from error
