"""What predictions of any layout are."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.dataset import VideoRecord
from datamodules.errors import BadSampleError
from datamodules.frames import inside
from evaluation.cases import Prediction


class Found(NamedTuple):
    """What was found for one expression.

    Args:
        prediction: its masks at the times that were asked for.
        problems: what is missing or unusable, a sentence each.
        encodings: how the masks are stored that were read: ``0/1``, ``0/255``, ``palette``, ``RLE`` …; an empty
            picture does not tell.
    """

    prediction: Prediction
    problems: list[str]
    encodings: frozenset[str] = frozenset()


class Predictions(ABC):
    """Masks that somebody has predicted, as they lie on disk; any number of threads may read.

    Args:
        path: where they are.
    """

    #: how they are laid out, in words
    layout: str

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def read(self, record: VideoRecord, times: Sequence[int], size: tuple[int, int]) -> Found:
        """Return what was predicted for an expression; what cannot be used is named and counts as missing.

        Args:
            record: the expression.
            times: positions in ``record.frame_names`` of the frames that count.
            size: height and width of the video.

        Raises:
            BadSampleError: if a name of the dataset would leave the folder of the predictions.
        """

    @abstractmethod
    def surplus(self, records: Iterable[VideoRecord]) -> list[str]:
        """Return what is there that no expression asks for, or that is never read, a sentence each."""

    @abstractmethod
    def stamp(self) -> str:
        """Return what changes when the predictions do: a digest of names, sizes and times of change."""

    def setting(self, encodings: Iterable[str] = ()) -> dict[str, str]:
        """Return what belongs to numbers that are measured on these masks.

        Args:
            encodings: those found while reading.
        """
        names = sorted(set(encodings))
        encoding = f"mixed: {', '.join(names)}" if len(names) > 1 else "".join(names) or "unknown: every mask is empty"
        return {"predictions": str(self.path), "layout": self.layout, "encoding": encoding}


def is_safe(record: VideoRecord) -> bool:
    """Return whether the names of an expression may become a path; where they may not, reading it raises."""
    try:
        inside(Path(), record.video_id, record.expression_id, record=record.key)
    except BadSampleError:
        return False
    return True


def lost(times: Sequence[int], size: tuple[int, int], video: bool, sentence: str) -> Found:
    """Return what there is where nothing was found.

    Args:
        times: the times that were asked for.
        size: height and width of the video.
        video: nothing was found for any expression of its video.
        sentence: where it was looked for.
    """
    shape = (len(times), *size)
    return Found(Prediction(shape, [], tuple(range(len(times))), "video" if video else "expression"), [sentence])


def named(names: Sequence[str], most: int = 5) -> str:
    """Return names as they are put into a sentence: the first few, and how many more there are."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(quoted, names[:most])) + rest


def quoted(name: str) -> str:
    """Return a name as it is put into a sentence, which can be written whatever the name holds."""
    return f"`{name.encode('utf-8', 'backslashreplace').decode()}`"
