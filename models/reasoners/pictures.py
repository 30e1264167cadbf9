"""Frames as prompts show them, and what is known of them."""

from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from datamodules.structures import LazyStack
from dialogues.chat import Frame

Known = TypeVar("Known")


class Picture(NamedTuple):
    """A frame at the size a prompt asks for; equal ones have equal pixels."""

    frames: LazyStack
    frame: Frame


class PictureMemory(Generic[Known]):
    """What is known of each picture, for as long as the frames of its sample live."""

    def __init__(self) -> None:
        self._by_frames: WeakKeyDictionary[LazyStack, dict[Frame, Known]] = WeakKeyDictionary()

    def __contains__(self, picture: Picture) -> bool:
        return picture.frame in self._by_frames.get(picture.frames, {})

    def __getitem__(self, picture: Picture) -> Known:
        return self._by_frames[picture.frames][picture.frame]

    def __setitem__(self, picture: Picture, known: Known) -> None:
        self._by_frames.setdefault(picture.frames, {})[picture.frame] = known

    def __reduce__(self) -> tuple[type["PictureMemory[Known]"], tuple[()]]:
        """Begin copies empty: they will be asked about the frames of other samples."""
        return type(self), ()

    def clear(self) -> None:
        """Forget everything."""
        self._by_frames.clear()
