"""Qwen2.5-VL and Qwen3-VL as policies: rollouts and log-probabilities that compute each group's prompt once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from datamodules.structures import VideoSample
from dialogues.chat import Chat, Message
from dialogues.episode import Answer, Completion, Episode, Turn
from models.reasoners.attention import PackedLayout
from models.reasoners.base import PolicyOutput, Sampling
from models.reasoners.decoding import Decoding, PromptCache
from models.reasoners.packing import Attempt, EncodedPrompt, arrange, pack
from models.reasoners.qwen_network import QwenNetwork
from models.reasoners.sampling import TokenSampler

#: Answer tokens whose logits over the whole vocabulary exist at once.
LOGIT_CHUNK = 1024
#: Rows that have ended leave the batch when they are one in so many: leaving copies what the others keep.
LEAVING = 8


class QwenVL(QwenNetwork):
    """A Qwen2.5-VL or Qwen3-VL model as a policy."""

    @contextmanager
    def seeing_once(self) -> Iterator[None]:
        """Inside this context weights stay as they are, and the vision tower sees each picture once (``vision.py``).

        The blank episode is seen first. A rank without episodes computes with it, and must not be the only one to call
        the tower then: where weights are sharded, calls are collective.
        """
        with self.vision.once():
            with torch.no_grad():
                self._read(self._prompt(self._blank.sample, self._blank.chat))
            yield

    @torch.no_grad()
    def generate(
        self, samples: Sequence[VideoSample], chats: Sequence[Chat], group_size: int, sampling: Sampling
    ) -> list[list[Completion]]:
        """Write ``group_size`` completions for each chat; each prompt is read once, whatever the size of its group."""
        prompts = [self._prompt(sample, chat) for sample, chat in zip(samples, chats, strict=True)]
        names = [sample.key for sample in samples for _ in range(group_size)]
        members = list(range(group_size)) * len(samples)
        draw = TokenSampler(sampling, names, members, self.suppressed_tokens.to(self.device))
        training = self.training
        self.eval()
        try:
            tokens, logprobs = self._decode(prompts, group_size, draw)
        finally:
            self.train(training)
        rows = [self._completion(*row) for row in zip(tokens.tolist(), logprobs, strict=True)]
        return [rows[start : start + group_size] for start in range(0, len(rows), group_size)]

    def logprobs(self, episodes: Sequence[Episode], temperature: float = 1.0) -> PolicyOutput:
        """Return how likely the policy finds the last turn of each episode, at ``temperature``.

        Consecutive episodes about the same frames share what their prompts have in common (``packing.py``).
        """
        if not episodes:
            return PolicyOutput(*(part[:0] for part in self.logprobs([self._blank], temperature)))
        row = pack(self._groups(episodes))
        score = partial(self._score, row.predictors.to(self.device), row.targets.to(self.device), temperature)
        layout = PackedLayout(row.groups)
        scores, entropy = self(score, row.token_ids[None], row.positions[:, None], layout, row.pictures)
        lengths = torch.tensor([len(episode.last.completion.token_ids) for episode in episodes])
        mask = (torch.arange(int(lengths.max()))[None] < lengths[:, None]).to(self.device)
        blank = torch.zeros(mask.shape, device=self.device)
        return PolicyOutput(blank.masked_scatter(mask, scores), mask, blank.masked_scatter(mask, entropy))

    def _groups(self, episodes: Sequence[Episode]) -> list[list[Attempt]]:
        """Return attempts in the order of their episodes, those together that share a prefix."""
        groups = []
        for _, run in groupby(episodes, key=lambda episode: id(episode.sample.frames)):
            attempts = []
            for _, same in groupby(run, key=lambda episode: id(episode.chat)):
                asked = list(same)
                prompt = self._prompt(asked[0].sample, asked[0].chat)
                attempts += [Attempt(prompt, episode.last.completion.token_ids) for episode in asked]
            groups += arrange(attempts) if self.prefix_sharing else [[attempt] for attempt in attempts]
        return groups

    def _score(self, predictors: Tensor, targets: Tensor, temperature: float, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy per token; logits exist for one chunk of tokens at a time."""

        def score(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.logits(states) / temperature
            # as one row, because the helper loops over rows
            return selective_log_softmax(logits[None], wanted[None])[0], entropy_from_logits(logits)

        states, wanted = hidden[0, predictors].split(LOGIT_CHUNK), targets.split(LOGIT_CHUNK)
        if len(states) == 1:
            return score(states[0], wanted[0])
        parts = [checkpoint(score, *part, use_reentrant=False) for part in zip(states, wanted, strict=True)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    @cached_property
    def _blank(self) -> Episode:
        """An episode about the blank picture, of an answer without words."""
        frames, frame = self._blank_picture
        side = self.encoder.factor
        chat = Chat((Message("user", (frame,)),), (side, side), (0,), (0,))
        return Episode(VideoSample("", "", "", [0], frames), chat, [Turn(self.encode(""), Answer())])

    def _decode(self, prompts: Sequence[EncodedPrompt], group_size: int, draw: TokenSampler) -> tuple[Tensor, Tensor]:
        """Return token ids and their log-probabilities, ``(rows, length)`` each; rows are padded after their end."""
        if not self.prefix_sharing:
            prompts, group_size = [prompt for prompt in prompts for _ in range(group_size)], 1
        caches, firsts = zip(*map(self._read, prompts), strict=True)
        decoding = Decoding(caches, group_size)
        go_on = self._compiled if self.compile_decoding else self._go_on
        logits = torch.cat(firsts).repeat_interleave(group_size, dim=0)
        last = torch.tensor([int(prompt.positions.max()) for prompt in prompts], device=self.device)
        position = last.repeat_interleave(group_size)
        tokens = torch.full((len(logits), draw.sampling.max_completion_length), self.pad_token, device=self.device)
        scores = torch.zeros(tokens.shape, device=self.device)
        rows = torch.arange(len(logits), device=self.device)
        ended = torch.zeros(len(rows), dtype=torch.bool, device=self.device)
        for place in range(tokens.shape[1]):
            drawn, scores[rows, place] = self._draw(logits, place, rows, draw)
            tokens[rows, place] = drawn = drawn.masked_fill(ended, self.pad_token)
            ended = ended | torch.isin(drawn, self.stop_tokens.to(self.device))
            if ended.all() or place + 1 == tokens.shape[1]:
                break
            if int(ended.sum()) * LEAVING >= len(rows):
                staying = (~ended).nonzero()[:, 0]
                decoding.keep(staying)
                rows, drawn, ended = rows[staying], drawn[staying], ended[staying]
            decoding.step()
            where = (position[rows] + 1 + place).expand(3, 1, -1).transpose(1, 2)
            logits = go_on(drawn[:, None], where, decoding)
        return tokens, scores

    def _draw(self, logits: Tensor, place: int, rows: Tensor, draw: TokenSampler) -> tuple[Tensor, Tensor]:
        """Return a token for each row and its log-probability, ``(rows,)`` each."""
        drawn = draw(logits, place, rows)
        # Nothing can be drawn from logits that are no numbers: the row ends, and its log-probability says why.
        drawn = drawn.masked_fill(logits.isnan().any(dim=1), self.end_token)
        scaled = logits / (draw.sampling.temperature or 1.0)
        return drawn, selective_log_softmax(scaled[None], drawn[None])[0]

    def _read(self, prompt: EncodedPrompt) -> tuple[PromptCache, Tensor]:
        """Return what is kept of a prompt, and the logits behind it, ``(1, vocabulary)``."""
        cache = PromptCache()
        logits = self(self._next, prompt.token_ids[None], prompt.positions[:, None], cache, prompt.pictures)
        return cache, logits

    def _go_on(self, token_ids: Tensor, positions: Tensor, decoding: Decoding) -> Tensor:
        """Return the logits behind a token of each row, ``(rows, vocabulary)``."""
        logits: Tensor = self(self._next, token_ids, positions, decoding)
        return logits

    @cached_property
    def _compiled(self) -> Callable[[Tensor, Tensor, Decoding], Tensor]:
        # CUDA graphs spare the launch of some twenty kernels a layer, which for few rows takes longer than they do.
        return torch.compile(self._go_on, mode="reduce-overhead")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies what was compiled for the weights of the original."""
        return {name: value for name, value in self.__dict__.items() if name != "_compiled"}

    def _next(self, hidden: Tensor) -> Tensor:
        return self.logits(hidden[:, -1])

    def _completion(self, row: list[int], logprobs: Tensor) -> Completion:
        stops = set(self.stop_tokens.tolist())
        end = next((index for index, token in enumerate(row) if token in stops), None)
        token_ids = row if end is None else row[: end + 1]
        text = self.processor.tokenizer.decode(token_ids, skip_special_tokens=True)
        return Completion(token_ids, text, logprobs[: len(token_ids)].cpu(), finished=end is not None)
