"""Predictions as one JSON of run-length codes, as Sa2VA and VideoSEG-O3 write them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.dataset import VideoRecord
from datamodules.json_index import open_index
from evaluation.cases import Prediction
from evaluation.predictions.base import Found, Predictions, lost, named
from evaluation.predictions.files import file_stamp
from evaluation.predictions.runs import read_track

_ENDINGS = (".jpg", ".jpeg", ".png")


class _Several(Enum):
    """Stands for the values of a name that an object holds more than once."""

    VALUES = "several values"


class ResultsJSON(Predictions):
    """``results.json`` of Sa2VA (https://github.com/bytedance/Sa2VA) and VideoSEG-O3, read one video at a time.

    Format::

        {video: {expression: {"prediction_masks": [RLE or null at each frame], "frames": [name of each]}}}

    Without ``frames`` the masks are those of the video's frames in sorted order. null is an empty mask, as in the
    ``mask_dict.json`` of the benchmarks. What is there twice, an expression or the mask of a frame, is not used.

    Raises:
        ValueError: if the file holds no JSON object.
    """

    layout = "results.json: a run-length code per frame"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        open_index(path)
        self._last: tuple[str, Any] = ("", None)

    def fits(self, records: Sequence[VideoRecord]) -> bool:
        """Return whether anything is there for at least one of the videos."""
        index = open_index(self.path)
        return any(video_id in index for video_id in {record.video_id for record in records})

    def read(self, record: VideoRecord, times: Sequence[int], size: tuple[int, int]) -> Found:
        """Return what was predicted for an expression; see `Predictions.read`."""
        try:
            return self._read(record, times, size)
        except RecursionError:  # there are more callers here than where the file was opened
            sentence = f"video {record.video_id!r} in `{self.path.name}` is nested too deeply"
            return lost(times, size, False, sentence)

    def surplus(self, records: Iterable[VideoRecord]) -> list[str]:
        """Return the videos and expressions that the dataset does not have."""
        wanted: dict[str, set[str]] = {}
        for record in records:
            wanted.setdefault(record.video_id, set()).add(record.expression_id)
        videos, sentences = [], []
        for video_id in open_index(self.path):
            if video_id not in wanted:
                videos.append(video_id)
            elif extra := sorted(self._expressions(video_id) - wanted[video_id]):
                sentences.append(f"video {video_id!r}: {named(extra)}, no expressions of it, not read")
        unknown = [f"{named(videos)}: {len(videos):,} videos that the dataset does not have, not read"]
        return [*(unknown if videos else []), *sentences]

    def stamp(self) -> str:
        """Return size and time of change of the file."""
        return file_stamp(self.path)

    def _read(self, record: VideoRecord, times: Sequence[int], size: tuple[int, int]) -> Found:
        video = self._video(record.video_id)
        if not isinstance(video, dict) or record.expression_id not in video:
            kind = f"expression {record.expression_id!r} of video" if isinstance(video, dict) else "video"
            sentence = f"expected {kind} {record.video_id!r} in `{self.path.name}`, but it has none"
            return lost(times, size, not isinstance(video, dict), sentence)
        said = video[record.expression_id]
        if said is _Several.VALUES:
            sentence = (
                f"expected expression {record.expression_id!r} of video {record.video_id!r} once, but got several"
            )
            return lost(times, size, False, sentence)
        masks = said.get("prediction_masks") if isinstance(said, dict) else None
        if not isinstance(masks, list):
            sentence = f"expected a list of masks in `prediction_masks`, but got a {type(masks).__name__}"
            return lost(times, size, False, sentence)
        names = said.get("frames")
        by_name, problems = _by_name(masks, record.frame_names if names is None else names, record.frame_names)
        wanted = [record.frame_names[time] for time in times]
        track = read_track([by_name.get(name) for name in wanted], size)
        problems += [f"frame {wanted[place]}: {why}" for place, why in track.broken.items()]
        if absent := [name for name in wanted if name not in by_name]:
            problems.append(f"no mask of {named(absent)}: {len(absent):,} of {len(wanted):,} frames missing")
        missing = [place for place, name in enumerate(wanted) if name not in by_name or place in track.broken]
        return Found(Prediction(track.bits.shape, [track.bits], tuple(missing)), problems, frozenset({"RLE"}))

    def _expressions(self, video_id: str) -> set[str]:
        try:
            video = self._video(video_id)
        except RecursionError:  # its expressions say so
            return set()
        return set(video) if isinstance(video, dict) else set()

    def _video(self, video_id: str) -> Any:
        """Return the entry of a video, None if there is none; the last one is kept, since its expressions follow."""
        last = self._last  # threads may replace it
        if last[0] != video_id:
            index = open_index(self.path)
            self._last = last = (video_id, index.entry(video_id, _once) if video_id in index else None)
        return last[1]


def _by_name(masks: list[Any], names: Any, expected: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """Return the masks by the names of their frames, and what does not fit."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return {}, [f"expected a list of names in `frames`, but got {str(names)[:80]}"]
    known = set(expected)
    stems = [name if name in known else PurePosixPath(name).stem if name.endswith(_ENDINGS) else name for name in names]
    problems = []
    if len(masks) != len(stems):
        problems.append(f"expected a mask for each of {len(stems):,} frames, but got {len(masks):,}")
    if extra := sorted(set(stems) - known):
        problems.append(f"masks of {named(extra)}, no frames of the video, not read")
    twice = {name for name in Counter(stems) - Counter(expected) if name in known}
    if twice:
        problems.append(f"several masks of {named(sorted(twice))}, not read")
    return {name: mask for name, mask in zip(stems, masks, strict=False) if name not in twice}, problems


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, in which the value of a name that is there more than once cannot be taken for one."""
    content = dict(pairs)
    if len(content) < len(pairs):
        content |= {name: _Several.VALUES for name, count in Counter(name for name, _ in pairs).items() if count > 1}
    return content
