"""GroundMoRe: questions about motion, answered while it happens."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.dataset import VideoDataset, VideoRecord, read_videos
from datamodules.errors import BadSampleError
from datamodules.frames import FrameReader, inside
from datamodules.json_fields import read_field
from datamodules.masks import MaskReader, Picture
from datamodules.sampling import FrameSelection

_FRAMES_PER_SECOND = 6
_SCORED = 20


class GroundMoRe(VideoDataset):
    """GroundMoRe: 1.7K clips and 7.6K questions whose answer is an object while it acts.

    The target is visible from ``action_start`` until before ``action_end``, times of the film the clip is cut from; the
    clip's own start is in its name. Outside it is empty, whatever is annotated. Of each clip 20 frames are scored,
    ``linspace(0, L - 1, 20)`` truncated to integers; a shorter clip is scored whole.

    Dataset format::

        root/annotations/<film>_<MMSS>_<MMSS>/images/frame_000000.jpg      6 frames per second
        root/annotations/<film>_<MMSS>_<MMSS>/masks/frame_000000.png       palette; may be missing where nothing is seen
        root/trainval_v2.json, test_v2.json                                and of version 1 trainval.json, test.json

    ``{"videos": {video: {"questions": {id: {"question": str, "answer": str, "obj_id": "1" or "1, 2", "q_type":
    "Causal", "action_start": "m:ss", "action_end": "m:ss"}}}}}``

    Args:
        root: folder of the dataset.
        split: ``trainval`` or ``test``.
        selection: which frames make a sample; default every one.
        groups: groups to keep, of ``causal``, ``sequential``, ``counterfactual`` and ``descriptive``; None keeps all.
        version: of the questions.
        official: number the frames as the published evaluator does: in the order in which the folder lists them, which
            depends on the machine, against masks in the order of time; a mask is always called ``frame_%06d.png``, and
            frames of a clip of less than 20 count more than once. For the table of that tool only.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        Motion-Grounded Video Reasoning: Understanding and Perceiving Motion at Pixel Level (CVPR 2025),
        ``evaluate_groundmore.py`` of https://github.com/dengandong/GroundMoRe
    """

    splits = ("trainval", "test")
    group_names = ("causal", "sequential", "counterfactual", "descriptive")

    def __init__(
        self,
        root: str | Path,
        split: Literal["trainval", "test"] = "trainval",
        selection: FrameSelection | None = None,
        groups: Sequence[str] | None = None,
        version: Literal["v1", "v2"] = "v2",
        official: bool = False,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        if version not in ("v1", "v2"):
            raise ValueError(f"Expected `version` of GroundMoRe to be 'v1' or 'v2', but got {version!r}")
        super().__init__(root, split, selection, groups, on_bad_sample, seed)
        self.version = version
        self.official = official

    @property
    def images(self) -> Path:
        """Folder of the videos, each a folder of frames and of masks."""
        return self.root / "annotations"

    @property
    def questions_file(self) -> Path:
        """The JSON of questions."""
        return self.root / (f"{self.split}.json" if self.version == "v1" else f"{self.split}_v2.json")

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return [self.images, self.questions_file]

    def records(self) -> Iterator[VideoRecord]:
        """Return every question, in the order of the file.

        Raises:
            ValueError: if the file has another layout.
        """
        where = f"`{self.questions_file}`"
        for video_id, video in read_videos(self.questions_file).items():
            questions = read_field(video, "questions", dict, f"video {video_id!r} in {where}")
            names = self._frame_names(video_id)
            sampled = np.linspace(0, len(names) - 1, num=_SCORED, dtype=int).tolist() if names else []
            scored = tuple(sampled if self.official else dict.fromkeys(sampled))
            for number, question in questions.items():
                place = f"question {number!r} of {video_id!r} in {where}"
                text = read_field(question, "question", str, place)
                group = read_field(question, "q_type", str, place).lower()
                if group not in self.group_names:
                    raise ValueError(f"Expected `q_type` of {place} to be of {self.group_names}, but got {group!r}")
                annotation = _objects(question, place), _window(video_id, question, place)
                yield VideoRecord(video_id, number, text, names, group, annotation, scored)

    def video_folder(self, record: VideoRecord) -> str:
        """Return the name of the folder of a video's frames, below ``images``."""
        return f"{record.video_id}/images"

    def frames(self, record: VideoRecord) -> FrameReader:
        """Return the reader of all frames of the video.

        Raises:
            BadSampleError: if a name would leave the folder of the dataset, or there are no frames.
        """
        if not record.frame_names:
            folder = inside(self.images, self.video_folder(record), record=record.key)
            raise BadSampleError(f"{record.key!r}: expected frames in `{folder}`, but there are none", "missing frame")
        return super().frames(record)

    def masks(self, record: VideoRecord) -> MaskReader:
        """Return the reader of all frames' masks.

        Raises:
            BadSampleError: if the frames cannot be read.
        """
        objects, window = record.annotation
        folder = inside(self.images, record.video_id, "masks", record=record.key)
        named = [f"frame_{time:06d}" if self.official else name for time, name in enumerate(record.frame_names)]
        paths = [folder / f"{name}.png" for name in named]
        seen = [time in window and path.exists() for time, path in enumerate(paths)]
        tracks = [
            [Picture(path, label) if there else None for path, there in zip(paths, seen, strict=True)]
            for label in objects
        ]
        return self.reader(tracks, record)

    def _frame_names(self, video_id: str) -> tuple[str, ...]:
        try:
            folder = inside(self.images, video_id, "images", record=video_id)
        except BadSampleError:
            return ()  # `draw` raises it again for each sample of the video, as the policy for bad samples wants
        files = os.listdir(folder) if folder.is_dir() else []
        listed = [name.removesuffix(".jpg") for name in files if name.endswith(".jpg")]
        return tuple(listed if self.official else sorted(listed))


def _objects(question: dict[str, Any], place: str) -> tuple[int, ...]:
    stored = str(read_field(question, "obj_id", (str, int), place))
    try:
        return tuple(int(label) for label in stored.split(","))
    except ValueError as error:
        raise ValueError(f"Expected `obj_id` of {place} to be numbers, but got {stored!r}") from error


def _window(video_id: str, question: dict[str, Any], place: str) -> range:
    """Return the positions of the frames at which the target is visible."""
    begin = _seconds(f"{video_id[-9:-7]}:{video_id[-7:-5]}", f"the last nine characters of the name, of {place},")
    starts, ends = (
        _seconds(read_field(question, name, str, place), f"`{name}` of {place}")
        for name in ("action_start", "action_end")
    )
    return range((starts - begin) * _FRAMES_PER_SECOND, (ends - begin) * _FRAMES_PER_SECOND)


def _seconds(text: str, what: str) -> int:
    """Return the seconds of ``m:ss`` or ``h:mm:ss``."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"Expected {what} to be a time m:ss, but got {text!r}")
    return sum(int(part) * 60**power for power, part in enumerate(reversed(parts)))
