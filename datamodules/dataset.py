"""What a dataset of videos and expressions is: indexed once, read lazily."""

import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from torch.utils.data import Dataset

from datamodules.errors import BadSampleError, DatasetNotFoundError
from datamodules.frames import FrameReader, ImageReader, inside
from datamodules.masks import RLE, MaskReader, Picture, UnionReader
from datamodules.sampling import EveryFrame, FrameSelection
from datamodules.structures import LazyStack, VideoSample, places

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoRecord:
    """One expression about one video, as the index knows it.

    Args:
        video_id: name of the video; may contain ``/``.
        expression_id: name of the expression, unique within its video.
        expression: the sentence, in its original case.
        frame_names: every frame of the video, sorted.
        group: name of the group in which the benchmark reports it, or None where it has none.
        annotation: what the dataset needs to find the masks; None where they are hidden.
        scored: positions of the frames that are measured, in order, one that counts twice twice; None is all of them.
    """

    video_id: str
    expression_id: str
    expression: str
    frame_names: tuple[str, ...]
    group: str | None = None
    annotation: Any = None
    scored: tuple[int, ...] | None = None

    @property
    def key(self) -> str:
        """Name that is unique within the dataset."""
        return f"{self.video_id}/{self.expression_id}"


class VideoDataset(Dataset[VideoSample | None], ABC):
    """Expressions about videos. A subclass answers ``files``, ``records`` and ``masks``.

    Nothing is read before the first use; then the expressions are indexed once. ``dataset[i]`` decodes no frame and no
    mask: the sample reads them when it is asked. Frames drawn at random are a function of (seed, epoch, index).

    A sample that cannot be used raises `BadSampleError`. With ``on_bad_sample="skip"`` it is left out instead:
    ``dataset[i]`` is None and `VideoDataModule` drops it from its batch. The other samples keep their places, so the
    order stays a function of seed and epoch. It is counted by reason in ``skipped``, and the first of each reason is
    logged. As a defect must then be found before the sample leaves the dataset, its frames are read at once, and its
    masks are checked.

    Args:
        root: folder of the dataset.
        split: part of the dataset.
        selection: which frames make a sample; default every one.
        groups: groups to keep; None keeps all.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.
    """

    #: the splits there are; none: whatever a subclass makes of ``split``
    splits: ClassVar[tuple[str, ...]] = ()
    #: the groups there are; none: any
    group_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        root: str | Path,
        split: str,
        selection: FrameSelection | None = None,
        groups: Sequence[str] | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        if on_bad_sample not in ("error", "skip"):
            raise ValueError(f"Expected `on_bad_sample` to be 'error' or 'skip', but got {on_bad_sample!r}")
        for name, given, known in (("split", {split}, self.splits), ("groups", set(groups or ()), self.group_names)):
            if known and (unknown := given - set(known)):
                raise ValueError(
                    f"Expected `{name}` of {type(self).__name__} to be of {list(known)}, but got {sorted(unknown)}"
                )
        self.root = Path(root)
        self.split = split
        self.selection = EveryFrame() if selection is None else selection
        self.groups = None if groups is None else tuple(groups)
        self.on_bad_sample = on_bad_sample
        self.seed = seed
        self.epoch = 0
        #: how many samples were left out since the dataset was made, by reason
        self.skipped: Counter[str] = Counter()

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""

    @property
    def images(self) -> Path:
        """Folder of the videos, each a folder of JPEGs."""
        return self.root / "JPEGImages"

    @abstractmethod
    def records(self) -> Iterable[VideoRecord]:
        """Return every expression of the split, in a fixed order."""

    @abstractmethod
    def masks(self, record: VideoRecord) -> MaskReader | None:
        """Return the reader of all frames' masks, or None where they are hidden.

        Raises:
            BadSampleError: if the annotation is missing or does not fit the video.
        """

    def foreground(self, record: VideoRecord) -> UnionReader | None:
        """Return the reader of the union of every annotated object of the video, or None if it is unknown."""
        return None

    def void(self, record: VideoRecord) -> UnionReader | None:
        """Return the reader of the pixels that do not count, or None if all do."""
        return None

    def video_folder(self, record: VideoRecord) -> str:
        """Return the name of the folder of a video, below ``images``."""
        return record.video_id

    def frames(self, record: VideoRecord) -> FrameReader:
        """Return the reader of all frames of the video.

        Raises:
            BadSampleError: if a name would leave the folder of the dataset.
        """
        join = partial(inside, self.images, self.video_folder(record), record=record.key)
        return ImageReader([join(f"{name}.jpg") for name in record.frame_names], record.key)

    def size(self, record: VideoRecord) -> tuple[int, int]:
        """Return height and width of the video in pixels; raises `BadSampleError` if they cannot be known."""
        return self.frames(record).size

    def reader(self, tracks: Sequence[Sequence[RLE | Picture | None]], record: VideoRecord, of: str = "") -> MaskReader:
        """Return the reader of tracks, one of each object, of the video of a record.

        Args:
            tracks: the mask at each time, or None where the object is absent.
            record: an expression about the video.
            of: what the masks are, for messages, if not the expression's.

        Raises:
            BadSampleError: if a track does not fit the video.
        """
        return MaskReader(tracks, self.size(record), len(record.frame_names), f"{record.key} {of}".rstrip())

    def times(self, record: VideoRecord, masks: MaskReader | None, generator: np.random.Generator) -> list[int]:
        """Return the positions of the frames that make the sample."""
        areas = partial(_hidden, record) if masks is None else masks.areas
        return self.selection(areas, len(record.frame_names), generator)

    def meta(self, record: VideoRecord) -> dict[str, Any]:
        """Return ``VideoSample.meta``; ``frame_names`` are those of the whole video, which ``frame_ids`` count."""
        group = {} if record.group is None else {"group": record.group}
        return {"dataset": type(self).__name__, "frame_names": list(record.frame_names)} | group

    @cached_property
    def index(self) -> list[VideoRecord]:
        """The expressions of the split, filtered by group.

        Raises:
            DatasetNotFoundError: if a file is missing.
            ValueError: if a file cannot be understood, or no expression is left.
        """
        missing = [path for path in self.files if not path.exists()]
        if missing:
            raise DatasetNotFoundError.of(type(self).__name__, self.root, missing)
        index = [record for record in self.records() if self.groups is None or record.group in self.groups]
        if not index:
            kept = "" if self.groups is None else f" of {list(self.groups)}"
            where = f"split {self.split!r} of {type(self).__name__} in `{self.root}`"
            raise ValueError(f"Expected at least one expression{kept} in {where}, but got none")
        return index

    def __len__(self) -> int:
        return len(self.index)

    def set_epoch(self, epoch: int) -> None:
        """Choose the frames that ``dataset[i]`` draws."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> VideoSample | None:
        if not 0 <= index < len(self):
            raise IndexError(f"Expected an index below {len(self)}, but got {index}")
        try:
            return self.draw(index, self.epoch)
        except BadSampleError as error:
            self.leave_out(error)
            return None

    def draw(self, index: int, epoch: int) -> VideoSample:
        """Return the sample that ``index`` is in ``epoch``.

        Raises:
            BadSampleError: if it cannot be used.
        """
        record = self.index[index]
        inside(self.root, record.video_id, record.expression_id, *record.frame_names, record=record.key)
        frames = self.frames(record)
        if not len(frames):
            raise BadSampleError(f"{record.key!r}: expected at least one frame, but got an empty video", "empty video")
        masks, foreground, void = self.masks(record), self.foreground(record), self.void(record)
        times = self.times(record, masks, np.random.default_rng((self.seed, epoch, index)))
        masks = None if masks is None else masks.select(times)
        foreground = None if foreground is None else foreground.select(times)
        void = None if void is None else void.select(times)
        sample = VideoSample(
            video_id=record.video_id,
            expression_id=record.expression_id,
            expression=record.expression,
            frame_ids=times,
            frames=LazyStack(frames, len(frames)).select(times),
            masks=None if masks is None else LazyStack(masks, len(times), dim=1),
            foreground=None if foreground is None else LazyStack(foreground, len(times)),
            void=None if void is None else LazyStack(void, len(times)),
            scored=None if record.scored is None else places(record.scored, times),
            meta=self.meta(record),
        )
        if self.on_bad_sample == "skip":
            _find_defects(sample.frames, masks, foreground, void)
        return sample

    def leave_out(self, error: BadSampleError) -> None:
        """Deal with a bad sample as ``on_bad_sample`` says: raise the error, or count and log it.

        Raises:
            BadSampleError: the error, unless bad samples are skipped.
        """
        if self.on_bad_sample == "error":
            raise error
        if not self.skipped[error.reason]:
            _LOGGER.warning("%s skips a sample (%s): %s", type(self).__name__, error.reason, error)
        self.skipped[error.reason] += 1


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; it is parsed once in a process and shared: do not change it.

    Raises:
        ValueError: if the file is not JSON.
    """
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


def read_videos(path: Path) -> dict[str, Any]:
    """Return ``videos`` of a JSON file, by name; do not change it.

    Raises:
        ValueError: if the file has another layout.
    """
    content = read_json(path)
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise ValueError(f"Expected `{path}` to hold an object with `videos`, but got none")
    return videos


@lru_cache(maxsize=4)
def _parsed(path: Path, changed: int, size: int) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"Expected JSON in `{path}`, but got: {error}") from error


def _hidden(record: VideoRecord) -> NoReturn:
    raise ValueError(
        f"Expected masks for {record.key!r} to choose frames by area, but its annotation is hidden; "
        "use `EveryFrame` or `UniformSelection`"
    )


def _find_defects(frames: LazyStack, masks: MaskReader | None, *unions: UnionReader | None) -> None:
    for time in range(len(frames)):
        frames.at(time)
    for reader in (masks, *(None if union is None else union.masks for union in unions)):
        if reader is not None:
            reader.verify()
