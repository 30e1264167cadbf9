"""ReasonVOS: reasoning expressions about objects of four other datasets."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datamodules.dataset import VideoDataset, VideoRecord, read_videos
from datamodules.errors import BadSampleError
from datamodules.masks import MaskReader, Picture
from datamodules.sampling import FrameSelection


class ReasonVOS(VideoDataset):
    """ReasonVOS: 91 videos of BURST, MOSE, MeViS and VIPSeg and 458 expressions, short ones and sentences; no training.

    Dataset format::

        root/JPEGImages/<vid>/<frame>.jpg
        root/Annotations/<source>_<vid>_<obj_id>/<frame>.png    not 0 = the object
        root/meta_expressions.json
            {"videos": {vid: {"source": "MOSE", "frames": [name],
                              "expressions": [{"obj_id": 1, "exp_id": 0, "exp_text": "...", "is_sent": 1}]}}}

    A record is named as predictions are, by ``<source>_<vid>_<obj_id>`` and ``exp_id``. Only frames that have a PNG are
    annotated, and only they are scored. The group is ``long`` where ``is_sent``, else ``short``.

    Args:
        root: folder of the dataset.
        selection: which frames make a sample; default every one.
        groups: groups to keep, of ``short`` and ``long``; None keeps both.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        One Token to Seg Them All: Language Instructed Reasoning Segmentation in Videos (NeurIPS 2024),
        https://github.com/showlab/VideoLISA, BENCHMARK.md
    """

    group_names = ("short", "long")

    def __init__(
        self,
        root: str | Path,
        selection: FrameSelection | None = None,
        groups: Sequence[Literal["short", "long"]] | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        super().__init__(root, "test", selection, groups, on_bad_sample, seed)

    @property
    def expressions_file(self) -> Path:
        """The JSON of expressions."""
        return self.root / "meta_expressions.json"

    @property
    def pictures(self) -> Path:
        """Folder of the masks."""
        return self.root / "Annotations"

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return [self.images, self.expressions_file, self.pictures]

    def records(self) -> Iterator[VideoRecord]:
        """Return every expression, in the order of the file.

        Raises:
            ValueError: if the file has another layout.
        """
        for video, content in read_videos(self.expressions_file).items():
            match content:
                case {"source": str(), "frames": [*frames], "expressions": [*expressions]} if all(
                    isinstance(frame, str) for frame in frames
                ):
                    for number, expression in enumerate(expressions):
                        yield self._record(video, content, number, expression)
                case _:
                    raise ValueError(
                        f"Expected video {video!r} in `{self.expressions_file}` to have `source`, `frames` (a list of "
                        f"names) and `expressions` (a list), but got {str(content)[:200]}"
                    )

    def _record(self, video: str, content: dict[str, Any], number: int, expression: Any) -> VideoRecord:
        match expression:
            case {"obj_id": int() | str(), "exp_id": int() | str(), "exp_text": str(text), "is_sent": 0 | 1 as is_sent}:
                names = tuple(sorted(content["frames"]))
                target = f"{content['source']}_{video}_{expression['obj_id']}"
                annotated = self._annotated.get(target, frozenset())
                scored = tuple(time for time, name in enumerate(names) if name in annotated)
                group = "long" if is_sent else "short"
                return VideoRecord(target, str(expression["exp_id"]), text, names, group, video, scored)
        raise ValueError(
            f"Expected expression {number} of {video!r} in `{self.expressions_file}` to have `obj_id`, `exp_id`, "
            f"`exp_text` and `is_sent` (0 or 1), but got {str(expression)[:200]}"
        )

    @cached_property
    def _annotated(self) -> dict[str, frozenset[str]]:
        """Names of the frames that have a PNG, by folder."""
        folders = sorted(path for path in self.pictures.iterdir() if path.is_dir())
        return {folder.name: frozenset(path.stem for path in folder.glob("*.png")) for folder in folders}

    def video_folder(self, record: VideoRecord) -> str:
        """Return the name of the folder of a video, below ``images``."""
        return str(record.annotation)

    def masks(self, record: VideoRecord) -> MaskReader:
        """Return the reader of the masks; frames that are not scored have none.

        Raises:
            BadSampleError: if the object has no mask, or one for a frame that is not in the video.
        """
        folder = self.pictures / record.video_id
        names = self._annotated.get(record.video_id, frozenset())
        if not names or (unknown := names - set(record.frame_names)):
            got = f"{sorted(unknown)[:3]}, which are none" if names else "no PNG"
            raise BadSampleError(
                f"{record.key!r}: expected masks of frames of {record.annotation!r} in `{folder}`, but got {got}",
                "missing masks",
            )
        track = [Picture(folder / f"{name}.png") if name in names else None for name in record.frame_names]
        return self.reader([track], record)
