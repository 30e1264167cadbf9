"""Qwen2.5-VL and Qwen3-VL as policies: rollouts and log-probabilities that compute each group's prompt once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from datamodules.structures import LazyStack, VideoSample
from dialogues.chat import Chat, Exact, Frame, Message
from dialogues.episode import Answer, Completion, Episode, Turn
from models.reasoners import adapters
from models.reasoners.adapters import LoRA
from models.reasoners.base import PolicyOutput, Reasoner, Sampling
from models.reasoners.packing import Sequences, left_pad, pack
from models.reasoners.prompts import EncodedImages, PromptEncoder
from models.reasoners.sampling import TokenSampler

#: Answer tokens whose logits over the whole vocabulary exist at once.
LOGIT_CHUNK = 1024

Head = TypeVar("Head")


class QwenVL(Reasoner):
    """A Qwen2.5-VL or Qwen3-VL model.

    Args:
        pretrained: Hugging Face folder or hub name.
        dtype: of the weights.
        attn_implementation: of transformers; must accept a block mask (``sdpa`` or ``eager``) if prefixes are shared.
        lora: train adapters instead of the weights.
        freeze_vision: leave the vision tower, and adapters on it, as they are.
        gradient_checkpointing: recompute layers in the backward pass.
        prefix_sharing: compute the prompt of a group once in ``logprobs``; False repeats it for every answer, with the
            same numbers.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        attn_implementation: str = "sdpa",
        lora: LoRA | None = None,
        freeze_vision: bool = False,
        gradient_checkpointing: bool = False,
        prefix_sharing: bool = True,
    ) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.dtype = dtype
        self.attn_implementation = attn_implementation
        self.lora = lora
        self.freeze_vision = freeze_vision
        self.gradient_checkpointing = gradient_checkpointing
        self.prefix_sharing = prefix_sharing
        self.model: Any = None
        self._frozen: list[Any] = []  # in a list, so that the reference copy is no part of the module tree
        self._active: Any = None
        adapters.leave_reference_out(self)

    def configure(self) -> None:
        """Load the model and its processor, once.

        Raises:
            FileNotFoundError: if ``pretrained`` is a folder that does not exist.
        """
        if self.model is not None:
            return
        if self.pretrained.count("/") != 1 and not Path(self.pretrained).is_dir():  # a hub name is owner/name
            raise FileNotFoundError(
                f"Expected a Hugging Face folder at `pretrained={self.pretrained!r}`, but there is none; "
                "run the stage that exports it first, or name another"
            )
        self.processor = AutoProcessor.from_pretrained(self.pretrained)
        self.encoder = PromptEncoder(self.processor)
        self.model = self._load()
        self.model.train()  # from_pretrained returns models that are set to evaluate
        if self.lora is not None:
            self.model = adapters.attach(self.model, self.lora, self.pretrained)
        if self.freeze_vision:
            self._policy.model.visual.requires_grad_(False)
        if self.gradient_checkpointing:
            self._policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            self._policy.enable_input_require_grads()  # otherwise nothing below frozen embeddings is recomputed
        ends = self._policy.generation_config.eos_token_id
        self.stop_tokens = torch.tensor([ends] if isinstance(ends, int) else ends)
        tokenizer = self.processor.tokenizer
        special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        # A sampled image placeholder would have no image, and the next forward pass would fail.
        self.suppressed_tokens = torch.tensor(sorted(special - set(self.stop_tokens.tolist())))
        self.pad_token = int(tokenizer.pad_token_id)
        self.end_token = int(tokenizer.eos_token_id)

    def keep_reference(self) -> None:
        """Load once more what training starts from: the adapters, or the whole model if there are none."""
        if self.lora is not None:
            adapters.keep_reference(self.model, self.lora)
        elif not self._frozen:
            self._frozen.append(self._load().eval().requires_grad_(False))

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside this context the reasoner is the policy that training started from."""
        if self.lora is not None:
            with adapters.reference(self.model, self.lora):
                yield
            return
        if not self._frozen:
            raise RuntimeError("Expected a reference policy, but none was kept: call `keep_reference`")
        self._active = self._frozen[0].to(self.device)
        try:
            yield
        finally:
            self._active = None

    @property
    def device(self) -> torch.device:
        """Where the policy is."""
        parameter: Tensor = next(self.parameters())
        return parameter.device

    def encode(self, text: str) -> Completion:
        """Return a text as a finished completion."""
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Completion([*ids, self.end_token], text)

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

    def forward(self, head: Callable[[Tensor], Head], **inputs: Any) -> tuple[Head, Any]:
        """Read token ids and images: the one way into the networks, once a pass, whatever the pass is about.

        Args:
            head: from hidden states ``(rows, length, width)`` to what is wanted of them, by ``self.logits``.
            **inputs: of the transformers model below its language-model head.

        Returns:
            What ``head`` returns, and the cache, if there is one.
        """
        output = self._policy.model(**inputs)
        return head(output.last_hidden_state), output.past_key_values

    def logits(self, states: Tensor) -> Tensor:
        """Return ``float32 (..., vocabulary)`` from hidden states ``(..., width)``.

        The weight is used without a call of its module: a strategy that gathers a module's weights when it is called
        would do so for each chunk of tokens, and ranks have different numbers of them.
        """
        return torch.nn.functional.linear(states, self._policy.lm_head.weight).float()

    def layers(self) -> list[nn.Module]:
        """Return the blocks of the language model and of the vision tower."""
        blocks = set(self._policy._no_split_modules)
        return [module for module in self._policy.modules() if type(module).__name__ in blocks]

    def direct_weights(self) -> list[nn.Parameter]:
        """Return the weight of the language-model head."""
        return [self._policy.lm_head.weight]

    def logprobs(self, episodes: Sequence[Episode], temperature: float = 1.0) -> PolicyOutput:
        """Return how likely the policy finds the last turn of each episode, at ``temperature``.

        Consecutive episodes about the same frames share one row (``packing.py``), unless ``prefix_sharing`` is off.
        """
        if not episodes:
            return _no_rows(self.logprobs([self._blank()], temperature))
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

    def save_pretrained(self, folder: Path, dtype: str | None = None, adapters_only: bool = False) -> None:
        """Write weights (adapters merged), configuration and processor as a Hugging Face folder, or adapters alone."""
        if adapters_only:
            if self.lora is None:
                raise ValueError("Expected adapters to save, but the model was trained without `lora`; save all of it")
            adapters.save(self.model, folder, getattr(torch, dtype or "float32"))
            return
        wanted = self._policy.dtype if dtype is None else getattr(torch, dtype)
        if self.lora is not None:
            model = adapters.merge(self.model, wanted)
        else:
            model = self.model if self._policy.dtype == wanted else adapters.copy(self.model, wanted)
        model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    @property
    def _policy(self) -> Any:
        """The transformers model that computes, without wrappers."""
        if self._active is not None:
            return self._active
        return self.model if self.lora is None else self.model.get_base_model()

    def _load(self) -> Any:
        return AutoModelForImageTextToText.from_pretrained(
            self.pretrained, dtype=getattr(torch, self.dtype), attn_implementation=self.attn_implementation
        )

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

    def _positions(self, prompt: Tensor, images: EncodedImages) -> Tensor:
        ids = prompt[None]
        positions: Tensor = self._policy.model.get_rope_index(
            ids, image_grid_thw=images.grid, mm_token_type_ids=(ids == self.encoder.image_token).long()
        )[0]
        return positions[:, 0]

    def _inputs(self, token_ids: Tensor, positions: Tensor, images: Sequence[EncodedImages]) -> dict[str, Tensor]:
        everything = EncodedImages.concatenate(images)
        inputs = {
            "input_ids": token_ids,
            "position_ids": positions,
            "pixel_values": everything.pixel_values.to(self._policy.dtype),
            "image_grid_thw": everything.grid,
            # Without these the model silently falls back to one-dimensional positions.
            "mm_token_type_ids": (token_ids == self.encoder.image_token).long(),
        }
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

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


def _no_rows(output: PolicyOutput) -> PolicyOutput:
    return PolicyOutput(output.logprobs[:0], output.mask[:0], output.entropy[:0])
