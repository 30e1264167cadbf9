"""ViCaS: sentences about several objects at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from datamodules.dataset import VideoDataset, VideoRecord, read_json
from datamodules.errors import BadSampleError
from datamodules.frames import FrameReader, VideoReader, inside
from datamodules.json_fields import read_field, read_list
from datamodules.masks import MaskReader
from datamodules.sampling import FrameSelection


class ViCaS(VideoDataset):
    """ViCaS: 20,416 videos (7,331 in version 0.1) with prompts that ask for one object or several.

    Each object of a prompt is one of the N masks. All frames are annotated, at 30 per second; those that people
    annotated, about one per second, are scored. Indexing reads every file of the split.

    Dataset format::

        root/annotations/<version>/<video>.json       video: its number with six digits
        root/splits/<version>/<split>.json            list of the numbers
        root/video_frames/<video>/00000.jpg           what `vicas/preprocess/videos_to_frames.sh` makes of the next; or
        root/videos/<filename>                        the films, if they have 30 frames per second

    ``{"filename": "000002_….mp4", "object_referrals": [{"prompt": str, "track_ids": [int]}], "segmentations":
    [{"filename": "00000.jpg", "is_gt": bool, "track_ids": [int], "mask_rles": [RLE]}]}``

    Args:
        root: folder of the dataset.
        split: ``train``, ``val`` or ``test``.
        selection: which frames make a sample; default every one.
        version: of annotations and splits.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        ViCaS: A Dataset for Combining Holistic and Pixel-level Video Understanding using Captions with Grounded
        Segmentation (CVPR 2025), https://github.com/Ali2500/ViCaS
    """

    splits = ("train", "val", "test")

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "test"] = "train",
        selection: FrameSelection | None = None,
        version: Literal["v0.1", "v1.0"] = "v1.0",
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        if version not in ("v0.1", "v1.0"):
            raise ValueError(f"Expected `version` of ViCaS to be 'v0.1' or 'v1.0', but got {version!r}")
        super().__init__(root, split, selection, None, on_bad_sample, seed)
        self.version = version

    @property
    def images(self) -> Path:
        """Folder of the frames, a folder for each video; or where there is none, of the films."""
        frames, films = self.root / "video_frames", self.root / "videos"
        return films if films.is_dir() and not frames.is_dir() else frames

    @property
    def split_file(self) -> Path:
        """The JSON that lists the videos of the split."""
        return self.root / "splits" / self.version / f"{self.split}.json"

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        needed = [self.images, self.split_file]
        if self.split_file.exists() and self._annotations.is_dir():
            return needed + [self._file(video_id) for video_id in self._videos()]
        return [*needed, self._annotations]

    def records(self) -> Iterator[VideoRecord]:
        """Return every prompt, in the order of the split and of each video's file.

        Raises:
            ValueError: if a file has another layout.
        """
        known: dict[tuple[str, ...], tuple[str, ...]] = {}  # 5 million names, most of them equal
        for video_id in self._videos():
            path = self._file(video_id)
            content, where = read_json(path), f"`{path}`"
            film = read_field(content, "filename", str, where)
            frames = _frames(content, where)
            names = tuple(read_field(frame, "filename", str, where).removesuffix(".jpg") for frame in frames)
            names = known.setdefault(names, names)
            scored = tuple(time for time, frame in enumerate(frames) if frame["is_gt"])
            for number, referral in enumerate(read_field(content, "object_referrals", list, where)):
                place = f"referral {number} in {where}"
                prompt = read_field(referral, "prompt", str, place)
                annotation = film, tuple(read_list(referral, "track_ids", int, place))
                yield VideoRecord(video_id, str(number), prompt, names, None, annotation, scored)

    def frames(self, record: VideoRecord) -> FrameReader:
        """Return the reader of all frames of the video.

        Raises:
            BadSampleError: if a name would leave the folder of the dataset, or the film has not one frame per mask.
        """
        if self.images.name == "video_frames":
            return super().frames(record)
        film = inside(self.images, record.annotation[0], record=record.key)
        reader = VideoReader(film, record.key)
        if len(reader) != len(record.frame_names):
            raise BadSampleError(
                f"{record.key!r}: expected the {len(record.frame_names)} frames of `{self._file(record.video_id)}` in "
                f"`{film}`, but got {len(reader)}; unpack the films to `video_frames` at 30 frames per second",
                "number of frames",
            )
        return reader

    def masks(self, record: VideoRecord) -> MaskReader:
        """Return the reader of all frames' masks.

        Raises:
            BadSampleError: if an object is not annotated, or its masks do not fit the video.
        """
        path = self._file(record.video_id)
        frames = _frames(read_json(path), f"`{path}`")
        shown = [dict(zip(frame["track_ids"], frame["mask_rles"], strict=True)) for frame in frames]
        tracks = record.annotation[1]
        for track in tracks:
            if not any(track in objects for objects in shown):
                raise BadSampleError(
                    f"{record.key!r} in `{path}`: expected object {track!r} in `segmentations`, but it is in none",
                    "unknown annotation",
                )
        cells = [[objects.get(track) for objects in shown] for track in tracks]
        return self.reader(cells, record)

    def meta(self, record: VideoRecord) -> dict[str, Any]:
        """Return ``VideoSample.meta``, which says that the objects of a prompt are measured each for itself."""
        return super().meta(record) | {"tracks_apart": True}

    @property
    def _annotations(self) -> Path:
        return self.root / "annotations" / self.version

    def _file(self, video_id: str) -> Path:
        return self._annotations / f"{video_id}.json"

    def _videos(self) -> list[str]:
        numbers = read_json(self.split_file)
        if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
            raise ValueError(f"Expected `{self.split_file}` to list numbers of videos, but got {str(numbers)[:80]}")
        return [f"{number:06d}" for number in numbers]


def _frames(content: Any, where: str) -> list[dict[str, Any]]:
    """Return the annotated frames of a video, in the order of their names, checked."""
    frames = read_field(content, "segmentations", list, where)
    for frame in frames:
        place = f"a frame of `segmentations` in {where}"
        read_field(frame, "filename", str, place)
        read_field(frame, "is_gt", bool, place)
        tracks, masks = read_list(frame, "track_ids", int, place), read_field(frame, "mask_rles", list, place)
        if len(tracks) != len(masks):
            raise ValueError(
                f"Expected `mask_rles` of {place} to have one mask for each of {len(tracks)} `track_ids`, but got "
                f"{len(masks)}"
            )
    return sorted(frames, key=lambda frame: str(frame["filename"]))
