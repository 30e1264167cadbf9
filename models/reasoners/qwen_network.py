"""What Qwen2.5-VL and Qwen3-VL compute: the networks, how they are loaded, and the one way into them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor

from datamodules.structures import VideoSample
from dialogues.chat import Chat
from dialogues.episode import Completion
from models.reasoners import adapters
from models.reasoners.adapters import LoRA
from models.reasoners.base import Reasoner
from models.reasoners.prompts import EncodedImages, PromptEncoder

Head = TypeVar("Head")


class QwenNetwork(Reasoner):
    """A Qwen2.5-VL or Qwen3-VL model, and the frozen policy that training started from.

    Args:
        pretrained: Hugging Face folder or hub name.
        dtype: of the weights.
        attn_implementation: of transformers; must accept a block mask (``sdpa`` or ``eager``) if prefixes are shared.
        lora: train adapters instead of the weights.
        freeze_vision: leave the vision tower, and adapters on it, as they are.
        gradient_checkpointing: recompute layers in the backward pass.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        attn_implementation: str = "sdpa",
        lora: LoRA | None = None,
        freeze_vision: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.dtype = dtype
        self.attn_implementation = attn_implementation
        self.lora = lora
        self.freeze_vision = freeze_vision
        self.gradient_checkpointing = gradient_checkpointing
        self.model: Any = None
        self._frozen: list[Any] = []  # in a list, so that the reference copy is no part of the module tree
        self._active: Any = None
        adapters.leave_reference_out(self)

    def configure(self) -> None:
        """Load the model and its processor, once.

        Raises:
            FileNotFoundError: if ``pretrained`` is a folder that does not exist.
            ValueError: if there would be adapters on the language-model head.
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
            if not isinstance(self._policy.lm_head, nn.Linear):
                raise ValueError(
                    "Expected `lora.target_modules` to leave `lm_head` alone, whose weight is used by itself, but got "
                    f"{self.lora.target_modules!r}"
                )
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

    def prepare(self, sample: VideoSample, chat: Chat) -> None:
        """Resize the frames of a chat and cut them into patches."""
        self.encoder.images(sample, chat)

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
