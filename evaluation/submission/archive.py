"""The archive that is submitted: complete, checked, and the same bytes for the same masks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from PIL import Image

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.errors import BadSampleError
from datamodules.files import atomic_file
from evaluation.predictions import Found, Predictions, open_predictions
from evaluation.submission.layouts import SubmissionLayout, Unit, layout_of

#: the earliest time a ZIP file can say; it stands for none
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o644 << 16
_UNIX = 3


class IncompleteSubmissionError(ValueError):
    """Predictions that a server would refuse or score as wrong.

    Args:
        gaps: what is missing or unusable, a line each.
        path: the predictions.
    """

    def __init__(self, gaps: Sequence[str], path: Path) -> None:
        self.gaps = list(gaps)
        lines = "\n".join(f"  - {gap}" for gap in gaps)
        super().__init__(f"Expected usable predictions of every frame in `{path}`, but nothing was written:\n{lines}")


@dataclass(frozen=True)
class Submission:
    """What was written.

    Args:
        path: the archive.
        setting: what it was made from, and what it holds.
        surplus: what of the predictions was left out, a sentence each.
    """

    path: Path
    setting: dict[str, str]
    surplus: list[str]


def write_submission(
    dataset: VideoDataset,
    predictions_path: Path,
    out: Path,
    progress: Callable[[Sequence[Unit]], Iterable[Unit]] = iter,
) -> Submission:
    """Write predictions as the archive that the server of a benchmark takes, and check what was written.

    The archive appears as a whole or not at all. The same masks give the same bytes, however they were stored: names
    are sorted, times are left out, pictures are not compressed twice.

    Args:
        dataset: the benchmark; its masks are not needed.
        predictions_path: a folder, a ZIP file or a ``results.json``; see `open_predictions`.
        out: the archive; one that is there is replaced.
        progress: wraps the units that are written, to show how far it is (``tqdm`` fits).

    Raises:
        IncompleteSubmissionError: if any frame has no usable prediction.
        FileNotFoundError: if there are no predictions.
        IsADirectoryError: if there is a folder in the archive's place.
        ValueError: if the benchmark takes no pictures, or the predictions have no known layout.
    """
    return Draft(dataset, predictions_path, out).write(progress)


class Draft:
    """An archive that is about to be written; whatever a user may have mistaken is found here.

    Args:
        dataset: as `write_submission` takes it, like the following.
        predictions_path: what it is made from.
        out: the archive.

    Raises:
        FileNotFoundError: if there are no predictions, or no dataset.
        IsADirectoryError: if there is a folder in the archive's place.
        ValueError: if the benchmark takes no pictures, or the predictions have no known layout.
    """

    def __init__(self, dataset: VideoDataset, predictions_path: Path, out: Path) -> None:
        if out.is_dir():
            raise IsADirectoryError(f"Expected the name of a ZIP file to write, but `{out}` is a folder")
        self.dataset = dataset
        self.layout = layout_of(dataset)
        self.predictions = open_predictions(predictions_path, dataset.index)
        self.units = sorted(self.layout.units(dataset.index), key=lambda unit: self.layout.names(unit)[:1])
        self.out = out

    def write(self, progress: Callable[[Sequence[Unit]], Iterable[Unit]]) -> Submission:
        """Write the archive and check what was written.

        Raises:
            IncompleteSubmissionError: if any frame has no usable prediction.
            OSError: if the disk did not keep what was written.
        """
        gaps, sizes, encodings = _Gaps(), [], set()
        with atomic_file(self.out) as file:
            with ZipFile(file, "w", ZIP_STORED) as archive:
                for unit in progress(self.units):
                    read = [gaps.read(self.dataset, self.predictions, record) for record in unit]
                    found = [each for each in read if each is not None]
                    if not gaps.lines:
                        sizes.append(_write(archive, self.layout, unit, found))
                        encodings |= {encoding for each in found for encoding in each.encodings}
            if gaps.lines:
                raise IncompleteSubmissionError(gaps.lines, self.predictions.path)
            file.flush()
            pictures = _verify(Path(file.name), self.layout, self.units, sizes)
            setting = self._setting(pictures, file.tell(), encodings)
        return Submission(self.out, setting, self.predictions.surplus(self.dataset.index))

    def _setting(self, pictures: int, size: int, encodings: Iterable[str]) -> dict[str, str]:
        records = self.dataset.index
        videos = len({record.video_id for record in records})
        holds = f"{videos:,} videos, {len(records):,} expressions, {pictures:,} pictures, {size / 1e6:,.1f} MB"
        return {
            "dataset": type(self.dataset).__name__,
            "split": self.dataset.split,
            **self.predictions.setting(encodings),
            "archive": str(self.out),
            "holds": holds,
            "as": self.layout.words,
        }


class _Gaps:
    """What is missing, as it turns up."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._videos: set[str] = set()

    def read(self, dataset: VideoDataset, predictions: Predictions, record: VideoRecord) -> Found | None:
        """Return what was predicted at all frames of a video; None, and a line, if it is not all that is needed."""
        times = range(len(record.frame_names))
        try:
            found = predictions.read(record, times, dataset.size(record))
        except BadSampleError as error:
            self.lines.append(f"{record.key}: {error}")
            return None
        prediction, why = found.prediction, "; ".join(found.problems)
        if not prediction.missing:
            return found
        if prediction.lost != "video":
            absent = spans(record.frame_names, prediction.missing)
            what = "" if prediction.lost else f"{len(prediction.missing):,} of {len(times):,} frames, {absent}: "
            self.lines.append(f"{record.key}: {what}{why}")
        elif record.video_id not in self._videos:
            self._videos.add(record.video_id)
            self.lines.append(f"every expression of {record.video_id}: {why}")
        return None


def spans(names: Sequence[str], places: Iterable[int]) -> str:
    """Return the names at ascending places; those in a row as the first and the last.

    >>> spans(["a", "b", "c", "d", "e"], [0, 2, 3, 4])
    'a, c–e'
    """
    runs = [[place for _, place in run] for _, run in groupby(enumerate(places), lambda item: item[1] - item[0])]
    return ", ".join(names[run[0]] if len(run) == 1 else f"{names[run[0]]}–{names[run[-1]]}" for run in runs)


def _write(archive: ZipFile, layout: SubmissionLayout, unit: Unit, found: Sequence[Found]) -> tuple[int, int]:
    """Write the pictures of a unit, one at a time; return their height and width."""
    masks = [each.prediction.mask for each in found]
    for time, name in enumerate(layout.names(unit)):
        entry = ZipInfo(name, _NO_TIME)
        entry.create_system, entry.external_attr = _UNIX, _READABLE
        archive.writestr(entry, layout.encode(unit, [mask.select([time]).dense()[0] for mask in masks]))
    return masks[0].shape[1:]


def _verify(path: Path, layout: SubmissionLayout, units: Sequence[Unit], sizes: Sequence[tuple[int, int]]) -> int:
    """Read the archive back and return how many pictures it holds, if they are those that are wanted.

    Raises:
        OSError: if they are not: the disk did not keep what was written.
    """
    wanted = [(name, size) for unit, size in zip(units, sizes, strict=True) for name in layout.names(unit)]
    with ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) != len(wanted):
            raise OSError(f"Expected {len(wanted):,} pictures in `{path}`, but got {len(entries):,}")
        for entry, (name, (height, width)) in zip(entries, wanted, strict=True):
            with Image.open(BytesIO(archive.read(entry))) as image:  # which checks the sum of its bytes
                got = (entry.filename, image.format, image.mode, image.height, image.width)
            if got != (name, "PNG", layout.mode, height, width):
                raise OSError(f"Expected {(name, 'PNG', layout.mode, height, width)} in `{path}`, but got {got}")
    return len(entries)
