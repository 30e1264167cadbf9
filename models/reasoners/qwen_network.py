"""What Qwen2.5-VL and Qwen3-VL compute: the networks, how they are loaded, and the one way into them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor

from datamodules.structures import LazyStack, VideoSample
from dialogues.chat import Chat, Exact, Frame
from dialogues.episode import Completion
from models.reasoners import adapters
from models.reasoners.adapters import LoRA
from models.reasoners.attention import SHARED_PREFIX, Layout
from models.reasoners.base import Reasoner
from models.reasoners.packing import EncodedPrompt
from models.reasoners.pictures import Picture
from models.reasoners.prompts import PromptEncoder
from models.reasoners.vision import Vision

Head = TypeVar("Head")


class QwenNetwork(Reasoner):
    """A Qwen2.5-VL or Qwen3-VL model, and the frozen policy that training started from.

    Args:
        pretrained: Hugging Face folder or hub name.
        dtype: of the weights.
        attn_implementation: of the vision tower, any of transformers'; the language model has one of its own
            (``attention.py``).
        lora: train adapters instead of the weights.
        freeze_vision: leave the vision tower, and adapters on it, as they are.
        gradient_checkpointing: recompute layers in the backward pass.
        prefix_sharing: compute what prompts have in common once, and each picture once; False repeats both for every
            answer, with the same numbers.
        compile_decoding: compile the pass that is made for every token of a rollout; on CUDA it is kept as a graph.
            The first rollouts are slow.
        vision_cache: folder where GRPO keeps the features of each frame, for later epochs and other runs; the tower
            must be frozen. None keeps them as long as the sample lives.
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
        compile_decoding: bool = False,
        vision_cache: Path | None = None,
    ) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.dtype = dtype
        self.attn_implementation = attn_implementation
        self.lora = lora
        self.freeze_vision = freeze_vision
        self.gradient_checkpointing = gradient_checkpointing
        self.prefix_sharing = prefix_sharing
        self.compile_decoding = compile_decoding
        self.vision_cache = vision_cache
        self.model: Any = None
        self._frozen: list[Any] = []  # in a list, so that the reference copy is no part of the module tree
        self._active: Any = None
        self._refers = False
        adapters.leave_reference_out(self)

    def configure(self) -> None:
        """Load the model and its processor, once.

        Raises:
            FileNotFoundError: if ``pretrained`` is a folder that does not exist.
            ValueError: if there would be adapters on the language-model head, or ``vision_cache`` is set and the tower
                is trained.
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
        self.vision = Vision(self.encoder, self._vision_is_frozen(), self.vision_cache)
        self.register_load_state_dict_post_hook(_forget_features)  # type: ignore[no-untyped-call]
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
        if self.lora is None and not self._frozen:
            raise RuntimeError("Expected a reference policy, but none was kept: call `keep_reference`")
        self._refers = True
        try:
            if self.lora is not None:
                with adapters.reference(self.model, self.lora):
                    yield
            else:
                self._active = self._frozen[0].to(self.device)
                yield
        finally:
            self._active, self._refers = None, False

    @property
    def device(self) -> torch.device:
        """Where the policy is."""
        parameter: Tensor = next(self.parameters())
        return parameter.device

    def encode(self, text: str) -> Completion:
        """Return a text as a finished completion."""
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Completion([*ids, self.end_token], text)

    def forward(
        self,
        head: Callable[[Tensor], Head],
        token_ids: Tensor,
        positions: Tensor,
        layout: Layout,
        pictures: Sequence[Picture] = (),
    ) -> Head:
        """Read token ids and pictures: the one way into the networks, once a pass, whatever the pass is about.

        Args:
            head: from hidden states ``(B, L, width)`` to what is wanted of them, by ``self.logits``.
            token_ids: ``int64 (B, L)``.
            positions: M-RoPE, ``int64 (3, B, L)``.
            layout: who attends to whom.
            pictures: in the order of their placeholders. Without any a pass with gradient looks at the blank picture,
                of which nothing is read: ranks must call the tower as often, and its gradients must reach all of them.

        Returns:
            What ``head`` returns.
        """
        if not pictures and torch.is_grad_enabled():
            pictures = [self._blank_picture]
        token_ids, positions = token_ids.to(self.device), positions.to(self.device)
        network = self._policy.model
        inputs: dict[str, Any] = {"inputs_embeds": network.get_input_embeddings()(token_ids)}
        if pictures:
            features = (
                self.vision.features(pictures, network, self._refers)
                if self.prefix_sharing
                else self.vision.encode(pictures, network)
            )
            where = token_ids == self.encoder.image_token
            words = inputs["inputs_embeds"]
            # Under autocast they are of another dtype than words.
            tokens = torch.cat([picture.tokens for picture in features]).to(words.dtype)
            inputs["inputs_embeds"] = words.masked_scatter(where[..., None], tokens)
            if features[0].deepstack:
                levels = zip(*(picture.deepstack for picture in features), strict=True)
                inputs["deepstack_visual_embeds"] = [torch.cat(level) for level in levels]
                inputs["visual_pos_masks"] = where
        output = network.language_model(position_ids=positions, layout=layout, use_cache=False, **inputs)
        return head(output.last_hidden_state)

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

    @cached_property
    def _blank_picture(self) -> Picture:
        """The smallest frame there is: one token."""
        side = self.encoder.factor
        return Picture(LazyStack.of(torch.zeros(1, 3, side, side, dtype=torch.uint8)), Frame(0, Exact(side, side)))

    def _load(self) -> Any:
        return AutoModelForImageTextToText.from_pretrained(
            self.pretrained,
            dtype=getattr(torch, self.dtype),
            attn_implementation={"text_config": SHARED_PREFIX, "vision_config": self.attn_implementation},
        )

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast the weights: what torch's modules do in ``to`` and its like."""
        if self.model is not None:
            self.vision.forget()
        moved: Self = super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return moved

    def _vision_is_frozen(self) -> bool:
        frozen = not any(weight.requires_grad for weight in self._policy.model.visual.parameters())
        if self.vision_cache is not None and not frozen:
            raise ValueError(
                f"Expected a frozen vision tower because `vision_cache={str(self.vision_cache)!r}` is set, but it is "
                "trained, so its features change; set `freeze_vision: true`, or leave `vision_cache` out"
            )
        return frozen

    def _prompt(self, sample: VideoSample, chat: Chat) -> EncodedPrompt:
        """Encode what an assistant is to answer."""
        images = self.encoder.images(sample, chat)
        token_ids = self.encoder.tokens(chat, images.grid)
        where = token_ids == self.encoder.image_token
        # Without token types the model silently falls back to one-dimensional positions.
        positions = self._policy.model.get_rope_index(
            token_ids[None], image_grid_thw=images.grid, mm_token_type_ids=where[None].long()
        )[0]
        counts = self.encoder.placeholders(images.grid)
        return EncodedPrompt(
            token_ids,
            positions[:, 0],
            [Picture(sample.frames, frame) for frame in chat.frames],
            where.nonzero()[:, 0][counts.cumsum(dim=0) - counts].tolist(),
        )


def _forget_features(reasoner: QwenNetwork, _: Any) -> None:
    reasoner.vision.forget()
