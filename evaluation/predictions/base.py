"""What predictions of any layout are."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.dataset import VideoRecord
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
    """Masks that somebody has predicted, as they lie on disk; picklable, and reading changes nothing.

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
        """

    @abstractmethod
    def surplus(self, records: Iterable[VideoRecord]) -> list[str]:
        """Return what is there that no expression asks for, or that is never read, a sentence each."""

    def setting(self, encodings: Iterable[str] = ()) -> dict[str, str]:
        """Return what belongs to numbers that are measured on these masks.

        Args:
            encodings: those found while reading.
        """
        names = sorted(set(encodings))
        encoding = f"mixed: {', '.join(names)}" if len(names) > 1 else "".join(names) or "unknown: every mask is empty"
        return {"predictions": str(self.path), "layout": self.layout, "encoding": encoding}
