"""How a paper talks: what it asks, how it reads an answer, and how an answer is written."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from datamodules.structures import VideoSample
from dialogues.chat import Chat
from dialogues.episode import Answer


class Dialogue(ABC):
    """A prompt and its reader. Stateless: everything it needs to read an answer is in the chat.

    ``read`` is total: any string gives an ``Answer``, in linear time, never an exception. ``write`` is its inverse on
    answers a model can give, so supervised targets and rewards cannot disagree about the form.
    """

    #: What to cite, as a line of a bibliography.
    paper: ClassVar[str] = ""

    @abstractmethod
    def ask(self, sample: VideoSample, shown: Sequence[int]) -> Chat:
        """Return the chat that asks for ``sample.expression`` and shows the frames at the time indices ``shown``."""

    @abstractmethod
    def read(self, text: str, chat: Chat, released: bool = False) -> Answer:
        """Read a completion.

        Args:
            text: what the reasoner wrote, without special tokens.
            chat: what it was asked.
            released: read and grade as the paper's published code did, oddities included.

        Returns:
            The answer in canonical units.
        """

    @abstractmethod
    def write(self, answer: Answer, chat: Chat) -> str:
        """Return the text that ``read`` reads as ``answer``."""
