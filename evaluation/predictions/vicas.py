"""Predictions as one JSON per video, as ViCaS asks for them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.dataset import VideoRecord
from datamodules.frames import inside
from evaluation.cases import Prediction
from evaluation.functional import MOST_TRACKS
from evaluation.predictions.base import Found, Predictions, lost, named
from evaluation.predictions.files import Files, join
from evaluation.predictions.runs import read_track


class ViCaSFiles(Predictions):
    """``<video>.json`` of ViCaS (https://github.com/Ali2500/ViCaS), in a folder or an archive; several tracks each.

    Format::

        {"video_id": 4, "pred_lgvis_masks": [[{"filename": "000012.jpg", "mask_rles": [RLE of each track]}]]}

    ``pred_lgvis_masks`` has a list for each referral of the video, in order; captions are not read.

    Args:
        files: what holds them.
        base: their folder in it.
    """

    layout = "<video>.json: run-length codes of several tracks"

    def __init__(self, files: Files, base: str = "") -> None:
        super().__init__(files.path)
        self.files = files
        self.base = base
        self._last: tuple[str, Any] = ("", None)

    def fits(self, records: Sequence[VideoRecord]) -> bool:
        """Return whether anything is there for at least one of the videos."""
        there = self.files.files(self.base)
        return any(_file(record) in there for record in records)

    def read(self, record: VideoRecord, times: Sequence[int], size: tuple[int, int]) -> Found:
        """Return what was predicted for an expression; see `Predictions.read`."""
        inside(Path(self.base), record.video_id, record=record.key)
        name = _file(record)
        if name not in self.files.files(self.base):
            return lost(times, size, True, f"expected `{join(self.base, name)}`, but there is none")
        try:
            referrals = self._referrals(name)
            frames = _frames(referrals[int(record.expression_id)])
            return _found([PurePosixPath(record.frame_names[time]).stem for time in times], frames, size)
        except (OSError, ValueError, IndexError, RecursionError) as error:
            why = "values that are nested too deeply" if isinstance(error, RecursionError) else error
            sentence = f"`{name}`: expected referral {record.expression_id} with masks, but got: {why}"
            return lost(times, size, False, sentence)

    def surplus(self, records: Iterable[VideoRecord]) -> list[str]:
        """Return files that no video asks for."""
        wanted = {join(self.base, _file(record)) for record in records}
        extra = [join(folder, name) for folder, names in self.files.walk() for name in sorted(names)]
        extra = [name for name in extra if name not in wanted]
        unknown = [f"{named(extra)}: {len(extra):,} files of no video of the dataset, not read"] if extra else []
        return [*unknown, *self.files.problems]

    def stamp(self) -> str:
        """Return a digest of the names, sizes and times of change of all files."""
        return f"{self.base} {self.files.stamp()}"

    def _referrals(self, name: str) -> list[Any]:
        """Return the masks of all referrals of a video; the last video is kept, since its expressions follow."""
        last = self._last  # threads may replace it
        if last[0] != name:
            content = json.loads(self.files.read(join(self.base, name)))
            masks = content.get("pred_lgvis_masks") if isinstance(content, dict) else None
            if not isinstance(masks, list):
                raise ValueError(f"no list `pred_lgvis_masks` but a {type(masks).__name__}")
            self._last = last = (name, masks)
        return last[1]  # type: ignore[no-any-return]


def _file(record: VideoRecord) -> str:
    """Return the name of a video's file; ViCaS writes numbers with six digits."""
    return f"{int(record.video_id):06d}.json" if record.video_id.isdecimal() else f"{record.video_id}.json"


def _frames(referral: Any) -> dict[str, list[Any]]:
    """Return the codes of each track by the name of their frame."""
    if not isinstance(referral, list):
        raise ValueError(f"expected a list of frames, but got a {type(referral).__name__}")
    frames = {}
    for frame in referral:
        match frame:
            case {"filename": str(name), "mask_rles": [*rles]}:
                frames[PurePosixPath(name).stem] = rles
            case _:
                raise ValueError(f"expected `filename` and `mask_rles`, but got {str(frame)[:80]}")
    return frames


def _found(wanted: Sequence[str], frames: dict[str, list[Any]], size: tuple[int, int]) -> Found:
    """Return the tracks at the frames that count."""
    count = max((len(rles) for rles in frames.values()), default=0)
    cells = [frames.get(name, []) for name in wanted]
    broken: dict[int, str] = {}
    for place, (name, rles) in enumerate(zip(wanted, cells, strict=True)):
        if name in frames and len(rles) < count:
            broken[place] = f"expected {count} tracks as at other frames, but got {len(rles)}"
    cells = [[None] * count if len(rles) < count else rles for rles in cells]
    tracks = [read_track([rles[number] for rles in cells], size) for number in range(count)]
    for track in tracks:
        broken |= track.broken
    problems = [f"frame {wanted[place]}: {why}" for place, why in sorted(broken.items())]
    if count > MOST_TRACKS:
        problems.append(
            f"expected at most {MOST_TRACKS} tracks, but got {count}: the first {MOST_TRACKS} are looked at"
        )
    if absent := [name for name in wanted if name not in frames]:
        problems.append(f"no masks of {named(absent)}: {len(absent):,} of {len(wanted):,} frames missing")
    missing = tuple(place for place, name in enumerate(wanted) if name not in frames or place in broken)
    for track in tracks:
        track.bits.words[list(missing)] = 0
    prediction = Prediction((len(wanted), *size), [track.bits for track in tracks], missing)
    return Found(prediction, problems, frozenset({"RLE"} if count else ()))
