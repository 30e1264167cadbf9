"""Datasets whose expressions are one JSON, the form that Ref-YouTube-VOS began."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from datamodules.dataset import VideoDataset, VideoRecord, read_videos
from datamodules.masks import RLE, MaskReader, Picture


class MetaExpressionsDataset(VideoDataset):
    """Videos as folders of JPEGs, expressions in one JSON. A subclass says where, and what the masks are.

    The expressions are ``{"videos": {video: {"frames": [name], "expressions": {id: {"exp": str, ...}}}}}``.
    """

    #: what an expression has to have, for messages
    fields: ClassVar[str]

    @property
    def images(self) -> Path:
        """Folder of the videos, each a folder of JPEGs."""
        return self.root / self.split / "JPEGImages"

    @property
    def expressions_file(self) -> Path:
        """The JSON of expressions."""
        return self.root / self.split / "meta_expressions.json"

    @property
    @abstractmethod
    def masks_path(self) -> Path | None:
        """The JSON or the folder of masks, or None where they are hidden."""

    @abstractmethod
    def annotation(self, video_id: str, expression_id: str, expression: dict[str, Any]) -> Any:
        """Return what finds the masks of an expression, where they are not hidden.

        Raises:
            KeyError, TypeError, ValueError: if the expression does not say it.
        """

    @abstractmethod
    def tracks(self, path: Path, record: VideoRecord) -> list[list[RLE | Picture | None]]:
        """Return the mask of each object at each time.

        Args:
            path: the JSON or the folder of masks.
            record: the expression.

        Raises:
            BadSampleError: if the annotation is missing.
        """

    def group_of(self, expression: dict[str, Any]) -> str | None:
        """Return the group in which the benchmark reports an expression, or None where it has none.

        Raises:
            KeyError, TypeError, ValueError: if the expression does not say it.
        """
        return None

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return [path for path in (self.images, self.expressions_file, self.masks_path) if path is not None]

    def masks(self, record: VideoRecord) -> MaskReader | None:
        """Return the reader of all frames' masks, or None where they are hidden.

        Raises:
            BadSampleError: if the annotation is missing or does not fit the video.
        """
        return None if self.masks_path is None else self.reader(self.tracks(self.masks_path, record), record)

    def records(self) -> Iterator[VideoRecord]:
        """Return every expression, in the order of the file.

        Raises:
            ValueError: if a file has another layout.
        """
        for video_id, video in self.videos.items():
            names = tuple(sorted(video["frames"]))
            for expression_id, expression in video["expressions"].items():
                try:
                    yield VideoRecord(
                        video_id,
                        expression_id,
                        str(expression["exp"]),
                        names,
                        self.group_of(expression),
                        None if self.masks_path is None else self.annotation(video_id, expression_id, expression),
                    )
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(
                        f"Expected expression {expression_id!r} of {video_id!r} in `{self.expressions_file}` to have "
                        f"{self.fields}, but got {expression!r} ({error})"
                    ) from error

    @property
    def videos(self) -> dict[str, Any]:
        """The videos of the JSON of expressions, checked.

        Raises:
            ValueError: if the file has another layout.
        """
        videos = read_videos(self.expressions_file)
        for name, video in videos.items():
            match video:
                case {"frames": [*frames], "expressions": {}} if all(isinstance(frame, str) for frame in frames):
                    if len(set(frames)) == len(frames):
                        continue
            raise ValueError(
                f"Expected video {name!r} in `{self.expressions_file}` to have `frames` (a list of names, each once) "
                f"and `expressions` (an object), but got {str(video)[:200]}"
            )
        return videos
