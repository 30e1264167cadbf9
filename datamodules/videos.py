"""A user's own videos: pictures or video files, and one JSON of expressions and masks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from datamodules.dataset import VideoDataset, VideoRecord, read_videos
from datamodules.errors import BadSampleError
from datamodules.frames import FrameReader, ImageReader, VideoReader, inside
from datamodules.masks import RLE, MaskReader, Picture
from datamodules.sampling import FrameSelection

_PICTURES = (".jpg", ".jpeg", ".png")


class OwnVideos(VideoDataset):
    """Your own videos, described by one JSON file; ``docs/own_videos.md`` shows a complete example.

    Dataset format::

        {"videos": {
            "kitchen": {
                "frames": "clips/kitchen",         a folder of JPEG or PNG pictures, sorted by name; or a video file
                "objects": {
                    "cup": [null, {"size": [720, 1280], "counts": "..."}],    a COCO RLE or null for each frame
                    "plate": {"folder": "masks/kitchen", "label": 2}          a PNG for each frame, of the same name
                },
                "expressions": [
                    {"exp": "the cup that falls", "objects": ["cup"], "group": "reasoning"}
                ]
            }
        }}

    Paths are relative to ``root``. Without ``label`` every pixel of a PNG that is not 0 belongs to the object; a frame
    without a PNG does not show it. Frames of a video file are named ``00000``, ``00001``, ... An expression without
    ``objects`` has hidden masks (predict only), one with an empty list has no target. ``group`` (``referring``,
    ``reasoning`` or ``absent``) is optional.

    Args:
        root: folder of the dataset.
        annotations: name of the JSON file below ``root``.
        selection: which frames make a sample; default every one.
        groups: groups to keep; None keeps all.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.
    """

    def __init__(
        self,
        root: str | Path,
        annotations: str = "videos.json",
        selection: FrameSelection | None = None,
        groups: Sequence[str] | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        super().__init__(root, annotations, selection, groups, on_bad_sample, seed)
        self.annotations = self.root / annotations

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return [self.annotations]

    def records(self) -> Iterator[VideoRecord]:
        """Return every expression, in the order of the file.

        Raises:
            ValueError: if the file has another layout.
        """
        for video_id, video in read_videos(self.annotations).items():
            match video:
                case {"frames": str(), "expressions": [*expressions]} if isinstance(video.get("objects", {}), dict):
                    yield from self._expressions(video_id, video, expressions)
                case _:
                    raise ValueError(
                        f"Expected video {video_id!r} in `{self.annotations}` to have `frames` (a path), `expressions` "
                        f"(a list) and, with masks, `objects` (an object), but got {str(video)[:200]}"
                    )

    def _expressions(self, video_id: str, video: dict[str, Any], expressions: list[Any]) -> Iterator[VideoRecord]:
        names = self._frame_names(video_id, video["frames"])
        for number, expression in enumerate(expressions):
            match expression:
                case {"exp": str(sentence)} if isinstance(expression.get("objects", []), list):
                    annotation = (video, expression.get("objects"))
                    yield VideoRecord(video_id, str(number), sentence, names, expression.get("group"), annotation)
                case _:
                    raise ValueError(
                        f"Expected expression {number} of {video_id!r} in `{self.annotations}` to have `exp` (a "
                        f"sentence) and, with masks, `objects` (a list of names), but got {str(expression)[:200]}"
                    )

    def _frame_names(self, video_id: str, frames: str) -> tuple[str, ...]:
        try:
            path = inside(self.root, frames, record=video_id)
            if path.is_file():
                return tuple(f"{time:05d}" for time in range(len(VideoReader(path, video_id))))
        except BadSampleError:
            return ()  # `frames` raises it again for each sample of the video, as the policy for bad samples wants
        return tuple(Path(name).stem for name in _pictures(path))

    def frames(self, record: VideoRecord) -> FrameReader:
        """Return the reader of all frames of the video.

        Raises:
            BadSampleError: if there is no such folder or video, or the path would leave the folder of the dataset.
        """
        path = inside(self.root, record.annotation[0]["frames"], record=record.key)
        if path.is_dir():
            return ImageReader([path / name for name in _pictures(path)], record.key)
        return VideoReader(path, record.key)

    def masks(self, record: VideoRecord) -> MaskReader | None:
        """Return the reader of all frames' masks, or None where they are hidden.

        Raises:
            BadSampleError: if an object is not annotated, or its masks do not fit the video.
        """
        video, names = record.annotation
        if names is None:
            return None
        objects = video.get("objects", {})
        for name in names:
            if name not in objects:
                raise BadSampleError(
                    f"{record.key!r} in `{self.annotations}`: expected object {name!r} among the annotated "
                    f"{sorted(objects)}",
                    "unknown annotation",
                )
        return self.reader([self._track(objects[name], name, record) for name in names], record)

    def _track(self, masks: Any, name: str, record: VideoRecord) -> list[RLE | Picture | None]:
        match masks:
            case [*cells]:
                return cells
            case {"folder": str(folder)} if isinstance(label := masks.get("label"), int | None):
                path = inside(self.root, folder, record=record.key)
                if not path.is_dir():
                    raise BadSampleError(
                        f"{record.key!r}: expected a folder `{path}` with the masks of {name!r}, but there is none",
                        "missing masks",
                    )
                pictures = [path / f"{frame}.png" for frame in record.frame_names]
                return [Picture(picture, label) if picture.exists() else None for picture in pictures]
        raise BadSampleError(
            f"{record.key!r} in `{self.annotations}`: expected the masks of {name!r} to be a list of RLE or null, or "
            f"{{'folder': path, 'label': int}}, but got {str(masks)[:80]}",
            "malformed mask",
        )


def _pictures(folder: Path) -> list[str]:
    """Names of the pictures of a folder, sorted; none if there is no folder."""
    return sorted(path.name for path in folder.glob("*") if path.suffix.lower() in _PICTURES)
