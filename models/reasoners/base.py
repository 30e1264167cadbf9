"""What thinks: a policy over text that has seen frames."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from datamodules.structures import VideoSample
from dialogues.chat import Chat
from dialogues.episode import Completion, Episode


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Args:
        max_completion_length: most tokens of one completion.
        temperature: divides the logits; 0 takes the likeliest token.
        top_p: keep the smallest set of tokens whose probability reaches this.
        top_k: keep this many likeliest tokens; 0 keeps all.
        seed: with ``step``, the sample's name, the member of the group and the position of the token, all that the
            noise depends on; never the rank or the layout of the batch.
        step: see ``seed``; the rollout batch's number in training.
    """

    max_completion_length: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    step: int = 0


class PolicyOutput(NamedTuple):
    """Log-probabilities of what a batch of episodes wrote.

    Args:
        logprobs: ``float32 (B, L)``, of the completion's tokens.
        mask: ``bool (B, L)``, True where the policy wrote a token.
        entropy: ``float32 (B, L)``, of the distribution each token was drawn from.
    """

    logprobs: Tensor
    mask: Tensor
    entropy: Tensor


class Reasoner(nn.Module, ABC):
    """A vision-language model that writes completions and knows how likely they were."""

    #: Hugging Face folder or hub name that the weights were loaded from.
    pretrained: str = ""

    def configure(self) -> None:
        """Build or load the networks. Called once, by ``configure_model``; constructors stay cheap."""

    def prepare(self, sample: VideoSample, chat: Chat) -> None:
        """Process the frames of a chat as far as that needs no weights, and keep the result with the sample.

        Another thread calls it for a later batch while this one generates and learns.

        Args:
            sample: where the frames are read from.
            chat: what the reasoner will be asked.
        """

    @abstractmethod
    def generate(
        self, samples: Sequence[VideoSample], chats: Sequence[Chat], group_size: int, sampling: Sampling
    ) -> list[list[Completion]]:
        """Write ``group_size`` completions for each chat.

        Args:
            samples: where the frames named by the chats are read from.
            chats: one per sample.
            group_size: completions per chat.
            sampling: how they are drawn.

        Returns:
            One group per sample, in order.
        """

    @abstractmethod
    def logprobs(self, episodes: Sequence[Episode], temperature: float = 1.0) -> PolicyOutput:
        """Return how likely the reasoner finds what ``episodes`` wrote; episodes of one chat share its computation.

        Without episodes the output has no rows, but the networks make a pass all the same, and gradients of zero reach
        every weight: where weights are sharded, ranks must make as many passes.
        """

    @abstractmethod
    def encode(self, text: str) -> Completion:
        """Return a text as the completion a reasoner would have to write, end token included (for supervision)."""

    def seeing_once(self) -> AbstractContextManager[None]:
        """Inside this context weights stay as they are, so that each picture need be seen once; without gradient."""
        return nullcontext()

    def layers(self) -> list[nn.Module]:
        """Return the layers of the networks, which a strategy may gather one at a time."""
        return []

    def direct_weights(self) -> list[nn.Parameter]:
        """Return the weights that ``forward`` uses without a call of the module that has them."""
        return []

    def keep_reference(self) -> None:
        """Keep the policy as it is now, for ``reference``."""
        raise NotImplementedError(f"{type(self).__name__} has no reference policy")

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside this context the reasoner is the policy that training started from."""
        raise NotImplementedError(f"{type(self).__name__} has no reference policy")
        yield

    def save_pretrained(self, folder: Path, dtype: str | None = None, adapters_only: bool = False) -> None:
        """Write a folder that opens in plain transformers.

        Args:
            folder: where to.
            dtype: of the weights; None keeps theirs.
            adapters_only: write the adapters alone, for peft to put on the model they were trained on.
        """
        raise NotImplementedError(f"{type(self).__name__} has no weights to save")
