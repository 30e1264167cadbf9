"""A reasoner that says what it is told to, for tests, notebooks and the evaluation of anyone's answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from datamodules.structures import VideoSample
from dialogues.chat import Chat
from dialogues.episode import Completion, Episode
from models.reasoners.base import PolicyOutput, Reasoner, Sampling


class ScriptedReasoner(Reasoner):
    """Answers from a script, and learns only how likely each of its bytes is.

    Args:
        answers: completions by ``VideoSample.key``; a group takes them in order, starting again at the end.
        default: completions for every other sample.
    """

    def __init__(self, answers: dict[str, list[str]] | None = None, default: list[str] | None = None) -> None:
        super().__init__()
        self.answers = answers or {}
        self.default = default or [""]
        self.logits = torch.nn.Parameter(torch.zeros(257))
        self._initial: Tensor | None = None
        self._reads_initial = False

    def generate(
        self, samples: Sequence[VideoSample], chats: Sequence[Chat], group_size: int, sampling: Sampling
    ) -> list[list[Completion]]:
        """Return the scripted completions, each as finished."""
        groups = []
        for sample in samples:
            script = self.answers.get(sample.key, self.default)
            groups.append([self.encode(script[member % len(script)]) for member in range(group_size)])
        return groups

    def encode(self, text: str) -> Completion:
        """Return a text as its bytes and an end token."""
        return Completion([*text.encode("utf-8", "surrogatepass"), 256], text)

    def logprobs(self, episodes: Sequence[Episode], temperature: float = 1.0) -> PolicyOutput:
        """Return the log-probabilities of a unigram model over bytes, whose logits are the only parameters."""
        if not episodes:
            return PolicyOutput(
                self.logits[None, :0][:0], torch.zeros(0, 0, dtype=torch.bool), self.logits[None, :0][:0]
            )
        ids = [torch.tensor(episode.last.completion.token_ids) for episode in episodes]
        tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1).to(self.logits.device)
        mask = tokens >= 0
        reading = self._initial if self._reads_initial and self._initial is not None else self.logits
        distribution = torch.distributions.Categorical(logits=reading / temperature)
        logprobs = distribution.log_prob(tokens.clamp(min=0)).masked_fill(~mask, 0.0)
        return PolicyOutput(logprobs, mask, distribution.entropy().expand(mask.shape) * mask)

    def keep_reference(self) -> None:
        """Keep the present logits."""
        self._initial = self.logits.detach().clone()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside this context the logits are those that were kept."""
        if self._initial is None:
            raise RuntimeError("Expected a reference policy, but none was kept: call `keep_reference` first")
        self._initial = self._initial.to(self.logits.device)
        self._reads_initial = True
        try:
            yield
        finally:
            self._reads_initial = False
