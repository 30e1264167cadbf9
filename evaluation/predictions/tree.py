"""Predictions as a picture per frame, in the layout that most benchmarks share."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.dataset import VideoRecord
from datamodules.frames import inside
from evaluation.cases import Prediction
from evaluation.functional import BitMasks
from evaluation.predictions.base import Found, Predictions, is_safe, lost, named, quoted
from evaluation.predictions.files import Files, join
from evaluation.predictions.pictures import read_pixels

#: how many folders of a kind are named, before the others are counted
_MOST = 50
#: how the folders of tracks are called that count apart, as where an expression asks for several objects
TRACK = "track_{}"
_TRACK = re.compile(TRACK.format("([0-9]+)"))


class PictureTree(Predictions):
    """``<video>/<expression>/<frame>.png``, in a folder or an archive: every pixel that is not 0 is the object.

    Tracks that count apart, as those of ViCaS do, are ``<video>/<expression>/track_<number>/<frame>.png``. Pictures
    right below the expression are one track, or none if nothing is masked in them.

    Args:
        files: what holds them.
        base: the folder of the videos in it.
    """

    layout = "<video>/<expression>/<frame>.png"

    def __init__(self, files: Files, base: str = "") -> None:
        super().__init__(files.path)
        self.files = files
        self.base = base

    def fits(self, records: Sequence[VideoRecord]) -> bool:
        """Return whether anything is there for at least one of the videos."""
        first = {record.video_id: record for record in records if is_safe(record)}
        return any(map(self.has_video, first.values()))

    def has_video(self, record: VideoRecord) -> bool:
        """Return whether anything is there for the video of an expression."""
        return self.files.has_folder(self.below(record, record.video_id))

    def folder(self, record: VideoRecord) -> str:
        """Return the folder of an expression's pictures."""
        return self.below(record, record.video_id, record.expression_id)

    def below(self, record: VideoRecord, *names: str) -> str:
        """Return a folder below the base; its names come from the dataset."""
        return inside(Path(self.base), *names, record=record.key).as_posix()

    def label(self, record: VideoRecord) -> int | None:
        """Return the value of an expression's pixels; None is every value but 0."""
        return None

    def read(self, record: VideoRecord, times: Sequence[int], size: tuple[int, int]) -> Found:
        """Return what was predicted for an expression; see `Predictions.read`."""
        folder = self.folder(record)
        folders = self.track_folders(folder)
        if not folders:
            return lost(times, size, not self.has_video(record), f"expected PNGs in `{folder}`, but there are none")
        names = [f"{record.frame_names[time]}.png" for time in times]
        readings = [_Reading(self.files, each, size, self.label(record)) for each in folders]
        found = [reading.read_all(names) for reading in readings]
        if folders != [folder]:
            return _together(found)
        union = found[0].prediction
        return found[0] if union.tracks[0].words.any() else found[0]._replace(prediction=replace(union, tracks=[]))

    def track_folders(self, folder: str) -> list[str]:
        """Return the folders of an expression's tracks by number: its own, if PNGs lie in it; none if none is there."""
        if any(name.endswith(".png") for name in self.files.files(folder)):
            return [folder]
        numbers = {name: int(found[1]) for name in self.files.folders(folder) if (found := _TRACK.fullmatch(name))}
        return [join(folder, name) for name in sorted(numbers, key=numbers.__getitem__)]

    def surplus(self, records: Iterable[VideoRecord]) -> list[str]:
        """Return folders and files that no expression asks for, and what lies beside the videos."""
        wanted = {
            folder: record.frame_names
            for record in records
            if is_safe(record)
            for folder in (self.folder(record), *self.track_folders(self.folder(record)))
        }
        unknown, further = [], []
        for folder, names in self.files.walk(self.base):
            frames = set(wanted.get(folder, ()))
            extra = sorted(name for name in names if not (name.endswith(".png") and name[:-4] in frames))
            if extra and folder in wanted:
                further.append(f"{quoted(folder)}: {named(extra)}, no frames of the video, not read")
            elif extra:
                unknown.append(f"{quoted(folder or '.')}: {named(extra)}, of no expression of the dataset, not read")
        return [*self._beside(), *self.files.problems, *_cut(unknown), *_cut(further)]

    def stamp(self) -> str:
        """Return a digest of the names, sizes and times of change of all files."""
        return f"{self.base} {self.files.stamp()}"

    def _beside(self) -> list[str]:
        """Return what lies beside the folders that lead to the videos."""
        sentences, folder = [], ""
        for name in self.base.split("/") if self.base else []:
            others = sorted({*self.files.files(folder), *self.files.folders(folder)} - {name})
            if others:
                sentences.append(f"{named(others)}, beside {quoted(join(folder, name))} with the masks, not read")
            folder = join(folder, name)
        return sentences


class _Reading:
    """The masks of one expression while its pictures are read.

    Args:
        files: what holds them.
        folder: of the pictures.
        size: height and width of the video.
        label: value of the object; None is every value but 0.
    """

    def __init__(self, files: Files, folder: str, size: tuple[int, int], label: int | None) -> None:
        self.files = files
        self.folder = folder
        self.size = size
        self.label = label
        #: place in time -> words of the mask, name of a picture that is not there, what is wrong with one
        self.words: dict[int, NDArray[np.uint64]] = {}
        self.absent: dict[int, str] = {}
        self.unusable: dict[int, str] = {}
        self.encodings: set[str] = set()

    def read_all(self, names: Sequence[str]) -> Found:
        """Return what there is in the pictures of the frames that count."""
        there = self.files.files(self.folder)
        for place, name in enumerate(names):
            if name in there:
                self.read(place, name)
            else:
                self.absent[place] = name
        return self.found(len(names))

    def read(self, place: int, name: str) -> None:
        """Read one picture."""
        path = join(self.folder, name)
        try:
            pixels = read_pixels(self.files.read(path), self.size, indices=self.label is not None)
        except (OSError, ValueError) as error:
            self.unusable[place] = f"`{path}`: {error}"
            return
        mask = pixels.values != 0 if self.label is None else pixels.values == self.label
        self.words[place] = BitMasks.of(mask[None]).words[0]
        if pixels.encoding is not None:
            self.encodings.add(pixels.encoding)

    def found(self, length: int) -> Found:
        """Return what was read for ``length`` frames."""
        bits = BitMasks.empty((length, *self.size))
        for place, words in self.words.items():
            bits.words[place] = words
        problems = list(self.unusable.values())
        if self.absent:
            names = list(self.absent.values())
            problems.append(f"`{self.folder}` has no {named(names)}: {len(names):,} of {length:,} frames missing")
        missing = tuple(sorted({*self.absent, *self.unusable}))
        return Found(Prediction(bits.shape, [bits], missing), problems, frozenset(self.encodings))


def _together(tracks: Sequence[Found]) -> Found:
    """Return the tracks of one expression; a frame is missing if it is in any of them, and then empty in all."""
    missing = sorted({time for found in tracks for time in found.prediction.missing})
    masks = [mask for found in tracks for mask in found.prediction.tracks]
    for mask in masks:
        mask.words[missing] = 0
    problems = [problem for found in tracks for problem in found.problems]
    encodings = frozenset[str]().union(*(found.encodings for found in tracks))
    return Found(Prediction(masks[0].shape, masks, tuple(missing)), problems, encodings)


def _cut(sentences: list[str]) -> list[str]:
    """Return the first sentences, and one that counts the others."""
    rest = [f"{len(sentences) - _MOST:,} more folders like the last one"] if len(sentences) > _MOST else []
    return [*sentences[:_MOST], *rest]
