"""From the annotation of a dataset to masks that are measured against."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from threading import Lock
from typing import Any, TypeVar

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.errors import BadSampleError
from datamodules.masks import RLE, MaskReader, Picture
from evaluation.cases import Truth
from evaluation.functional import BitMasks

T = TypeVar("T")

#: most bytes of masks that are kept for the next expressions
KEPT = 1 << 26


def measured_times(record: VideoRecord) -> list[int]:
    """Return the positions of the frames that are measured.

    Raises:
        BadSampleError: if there is none.
    """
    times = list(range(len(record.frame_names)) if record.scored is None else record.scored)
    if not times:
        raise BadSampleError(f"{record.key!r}: expected at least one frame to measure, but got none", "empty video")
    return times


class TruthReader:
    """Reads annotations at the frames that count, and keeps those that the next expressions may share.

    What is kept is found by its content, so that expressions about the same objects, whose names only the dataset
    knows, share masks and what is computed of them. Any number of threads may read.

    Args:
        dataset: whose annotation it is.
    """

    def __init__(self, dataset: VideoDataset) -> None:
        self.dataset = dataset
        self._truths: OrderedDict[Any, Truth] = OrderedDict()
        self._unions: OrderedDict[Any, BitMasks] = OrderedDict()
        self._lock = Lock()

    def read(self, unit: Sequence[VideoRecord]) -> Truth:
        """Return the annotation of expressions that are measured together: the objects of all, in order.

        Raises:
            BadSampleError: if an annotation is missing, hidden, broken, or does not fit the video.
        """
        first = unit[0]
        times = measured_times(first)
        readers = []
        for record in unit:
            masks = self.dataset.masks(record)
            if masks is None:
                raise BadSampleError(
                    f"{record.key!r}: expected masks to measure by, but the dataset has none for this expression",
                    "hidden masks",
                )
            readers.append(masks.select(times))
        size = readers[0].size
        unions = [
            None if union is None else union.masks.select(times)
            for union in (self.dataset.foreground(first), self.dataset.void(first))
        ]
        key = (size, *(None if reader is None else _content(reader) for reader in (*readers, *unions)))

        def make() -> Truth:
            foreground, void = (None if union is None else self._union(union) for union in unions)
            objects = [bits for reader in readers for bits in read_objects(reader)]
            return Truth((len(times), *size), objects, foreground, void)

        return self._kept(self._truths, key, make, _bytes)

    def _union(self, reader: MaskReader) -> BitMasks:
        """Return the union of all objects; expressions about other objects of the video share it."""

        def make() -> BitMasks:
            return reduce(or_, read_objects(reader), BitMasks.empty((len(reader), *reader.size)))

        return self._kept(self._unions, (reader.size, _content(reader)), make, lambda bits: bits.words.nbytes)

    def _kept(self, store: OrderedDict[Any, T], key: Any, make: Callable[[], T], size: Callable[[T], int]) -> T:
        with self._lock:
            if key in store:
                store.move_to_end(key)
                return store[key]
        made = make()
        with self._lock:
            store[key] = made
            while len(store) > 1 and sum(map(size, store.values())) > KEPT:
                store.popitem(last=False)
        return made


def read_objects(reader: MaskReader) -> list[BitMasks]:
    """Return the masks of each object; run-length codes are not decoded to pixels.

    Raises:
        BadSampleError: if a mask cannot be read.
    """
    tracks = [reader.cells(number) for number in range(reader.num_objects)]
    rles = [[cell for cell in track if not isinstance(cell, Picture)] for track in tracks]
    if all(len(track) == len(reader) for track in rles):
        try:
            return [BitMasks.of(track, reader.size) for track in rles]
        except ValueError:
            reader.verify()  # says which object and which time
            raise
    objects = [BitMasks.empty((len(reader), *reader.size)) for _ in tracks]
    for time in range(len(reader)):
        planes = BitMasks.of(reader(time))
        for bits, words in zip(objects, planes.words, strict=True):
            bits.words[time] = words
    return objects


def _content(reader: MaskReader) -> tuple[Any, ...]:
    """Return what tells an annotation from others."""
    return tuple(tuple(map(_cell, reader.cells(number))) for number in range(reader.num_objects))


def _cell(cell: RLE | Picture | None) -> Any:
    if cell is None or isinstance(cell, Picture):
        return cell
    counts = cell.get("counts")
    return tuple(counts) if isinstance(counts, list) else counts


def _bytes(truth: Truth) -> int:
    return truth.target.words.nbytes + sum(bits.words.nbytes for bits in truth.objects)
