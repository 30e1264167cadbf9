"""What is said to a reasoner: messages of text and of frames, which are named by index and never copied."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Exact:
    """Resize a frame to exactly this size in pixels, whatever its shape."""

    height: int
    width: int


@dataclass(frozen=True)
class Budget:
    """Resize a frame to an area in ``[min_pixels, max_pixels]`` and sides that are multiples of ``factor``."""

    min_pixels: int
    max_pixels: int
    factor: int = 28


@dataclass(frozen=True)
class Frame:
    """A frame of the sample, by its index into ``VideoSample.frames``."""

    index: int
    resize: Exact | Budget


@dataclass(frozen=True)
class Text:
    """A piece of text; ``role`` names its part (``label``, ``question``, ``instruction`` …), whatever its wording."""

    text: str
    role: str


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: tuple[Frame | Text, ...]


@dataclass(frozen=True)
class Chat:
    """A conversation about one sample.

    Args:
        messages: what was said so far.
        size: height and width of the frames in pixels.
        frame_ids: ``VideoSample.frame_ids``: position in the video of each frame that can be named.
        shown: time indices of the frames that were shown, in the order of the prompt.
    """

    messages: tuple[Message, ...]
    size: tuple[int, int]
    frame_ids: tuple[int, ...]
    shown: tuple[int, ...]

    @property
    def frames(self) -> list[Frame]:
        """Every frame of the chat, in the order of its placeholder."""
        return [part for message in self.messages for part in message.content if isinstance(part, Frame)]
