"""Qwen2.5-VL and Qwen3-VL as policies: rollouts and log-probabilities that compute each group's prompt once."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from datamodules.structures import LazyStack, VideoSample
from dialogues.chat import Chat, Exact, Frame, Message
from dialogues.episode import Answer, Completion, Episode, Turn
from models.reasoners.base import PolicyOutput, Sampling
from models.reasoners.packing import Sequences, left_pad, pack
from models.reasoners.prompts import EncodedImages
from models.reasoners.qwen_network import QwenNetwork
from models.reasoners.sampling import TokenSampler

#: Answer tokens whose logits over the whole vocabulary exist at once.
LOGIT_CHUNK = 1024


class QwenVL(QwenNetwork):
    """A Qwen2.5-VL or Qwen3-VL model as a policy.

    Args:
        pretrained: Hugging Face folder or hub name.
        prefix_sharing: compute the prompt of a group once in ``logprobs``; False repeats it for every answer, with the
            same numbers.
        **kwargs: of ``QwenNetwork``.
    """

    def __init__(self, pretrained: str, *, prefix_sharing: bool = True, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        self.prefix_sharing = prefix_sharing

    @torch.no_grad()
    def generate(
        self, samples: Sequence[VideoSample], chats: Sequence[Chat], group_size: int, sampling: Sampling
    ) -> list[list[Completion]]:
        """Write ``group_size`` completions for each chat; each prompt is read once, whatever the size of its group."""
        images = [self.encoder.images(sample, chat) for sample, chat in zip(samples, chats, strict=True)]
        prompts = [self.encoder.tokens(chat, part.grid) for chat, part in zip(chats, images, strict=True)]
        names = [sample.key for sample in samples for _ in range(group_size)]
        members = list(range(group_size)) * len(samples)
        draw = TokenSampler(sampling, names, members, self.suppressed_tokens.to(self.device))
        training = self.training
        self.eval()
        try:
            tokens, logprobs = self._decode(prompts, images, group_size, draw)
        finally:
            self.train(training)
        rows = [self._completion(*row) for row in zip(tokens.tolist(), logprobs, strict=True)]
        return [rows[start : start + group_size] for start in range(0, len(rows), group_size)]

    def logprobs(self, episodes: Sequence[Episode], temperature: float = 1.0) -> PolicyOutput:
        """Return how likely the policy finds the last turn of each episode, at ``temperature``.

        Consecutive episodes about the same frames share one row (``packing.py``), unless ``prefix_sharing`` is off.
        """
        if not episodes:
            return PolicyOutput(*(part[:0] for part in self.logprobs([self._blank()], temperature)))
        rows: list[Sequences] = []
        images: list[EncodedImages] = []
        for group in self._groups(episodes):
            encoded = self.encoder.images(group[0].sample, group[0].chat)
            parts = self._sequences(group, encoded)
            rows += parts
            images += [encoded] * len(parts)
        packed = pack(rows, self.pad_token)
        inputs = self._inputs(packed.token_ids, packed.positions, images)
        score = partial(self._score, packed.predictors.to(self.device), packed.targets.to(self.device), temperature)
        mask = packed.attention_mask().to(self.device)
        (scores, entropy), _ = self(score, **inputs, attention_mask=mask, use_cache=False)
        lengths = torch.tensor([len(answer) for row in rows for group in row.answers for answer in group])
        mask = (torch.arange(int(lengths.max()))[None] < lengths[:, None]).to(self.device)
        blank = torch.zeros(mask.shape, device=self.device)
        return PolicyOutput(blank.masked_scatter(mask, scores), mask, blank.masked_scatter(mask, entropy))

    def _groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        """Split episodes into runs about the same frames."""
        if not self.prefix_sharing:
            return [[episode] for episode in episodes]
        runs = groupby(episodes, key=lambda episode: (id(episode.sample.frames), episode.chat.frames))
        return [list(run) for _, run in runs]

    def _sequences(self, episodes: Sequence[Episode], images: EncodedImages) -> list[Sequences]:
        """Return one row if everything the prompts have seen is in what they have in common, else one per prompt."""
        rows = []
        for _, run in groupby(episodes, key=lambda episode: id(episode.chat)):
            group = list(run)
            prompt = self.encoder.tokens(group[0].chat, images.grid)
            answers = [episode.last.completion.token_ids for episode in group]
            rows.append(Sequences([prompt], [self._positions(prompt, images)], [answers]))
        together = Sequences.joined(rows)
        seen_later = any((row.prompts[0][together.prefix_length :] == self.encoder.image_token).any() for row in rows)
        return rows if seen_later else [together]

    def _score(self, predictors: Tensor, targets: Tensor, temperature: float, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy per token; logits exist for one chunk of tokens at a time."""

        def score(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.logits(states) / temperature
            return selective_log_softmax(logits, wanted), entropy_from_logits(logits)

        states, wanted = hidden.flatten(0, 1)[predictors].split(LOGIT_CHUNK), targets.split(LOGIT_CHUNK)
        if len(states) == 1:
            return score(states[0], wanted[0])
        parts = [checkpoint(score, *part, use_reentrant=False) for part in zip(states, wanted, strict=True)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _blank(self) -> Episode:
        """Return an episode about the smallest frame there is, of an answer without words."""
        side = self.encoder.factor
        sample = VideoSample("", "", "", [0], LazyStack.of(torch.zeros(1, 3, side, side, dtype=torch.uint8)))
        chat = Chat((Message("user", (Frame(0, Exact(side, side)),)),), (side, side), (0,), (0,))
        return Episode(sample, chat, [Turn(self.encode(""), Answer())])

    def _decode(
        self, prompts: list[Tensor], images: list[EncodedImages], group_size: int, draw: TokenSampler
    ) -> tuple[Tensor, Tensor]:
        """Return token ids and their log-probabilities, ``(rows, length)`` each; rows are padded after their end."""
        where = [self._positions(prompt, part) for prompt, part in zip(prompts, images, strict=True)]
        token_ids, positions, valid = left_pad(prompts, where, self.pad_token)
        inputs = self._inputs(token_ids, positions, images)
        valid = valid.to(self.device)
        logits, cache = self(self._next, **inputs, attention_mask=valid.long(), use_cache=True)
        cache.batch_repeat_interleave(group_size)
        logits = logits.repeat_interleave(group_size, dim=0)
        valid = valid.repeat_interleave(group_size, dim=0)
        step = (inputs["position_ids"].amax(dim=(0, 2)) + 1).repeat_interleave(group_size)
        stop = self.stop_tokens.to(self.device)
        finished = torch.zeros(len(valid), dtype=torch.bool, device=self.device)
        tokens, scores = [], []
        for position in range(draw.sampling.max_completion_length):
            drawn = draw(logits, position)
            # Nothing can be drawn from logits that are no numbers: the row ends, and its log-probability says why.
            drawn = drawn.masked_fill(logits.isnan().any(dim=1), self.end_token).masked_fill(finished, self.pad_token)
            tokens.append(drawn)
            scaled = logits / (draw.sampling.temperature or 1.0)
            scores.append(selective_log_softmax(scaled, drawn))
            finished = finished | torch.isin(drawn, stop)
            if finished.all():
                break
            valid = torch.cat([valid, valid.new_ones(len(valid), 1)], dim=1)
            logits, cache = self(
                self._next,
                input_ids=drawn[:, None],
                position_ids=(step + position).expand(3, 1, -1).transpose(1, 2),
                attention_mask=valid[:, None, None],
                past_key_values=cache,
                use_cache=True,
            )
        return torch.stack(tokens, dim=1), torch.stack(scores, dim=1)

    def _next(self, hidden: Tensor) -> Tensor:
        return self.logits(hidden[:, -1])

    def _completion(self, row: list[int], logprobs: Tensor) -> Completion:
        stops = set(self.stop_tokens.tolist())
        end = next((index for index, token in enumerate(row) if token in stops), None)
        token_ids = row if end is None else row[: end + 1]
        text = self.processor.tokenizer.decode(token_ids, skip_special_tokens=True)
        return Completion(token_ids, text, logprobs[: len(token_ids)].cpu(), finished=end is not None)
