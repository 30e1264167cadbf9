"""Small Qwen-VL models built from a configuration, for machines and tests without pretrained weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers.models.qwen2 import Qwen2Tokenizer

#: The control tokens of the Qwen-VL families.
CONTROL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip


@dataclass
class ScratchConfig:
    """Size of a model that starts from random weights.

    Args:
        family: which architecture.
        hidden_size: width of the language model and of the vision tower.
        intermediate_size: width of their feed-forward layers.
        num_layers: depth of the language model.
        vision_depth: depth of the vision tower.
        num_heads: attention heads; keys and values have half as many in the language model.
        patch_size: side of a patch in pixels; an image token covers 2 × 2 patches.
        image_size: side of the largest image in pixels, for the learned positions of Qwen3-VL's tower.
        initializer_range: standard deviation of the weights; 0.02 is too small for widths below 128.
        merged: strings that are one token each, beside the 256 bytes.
        seed: of the weights.
    """

    family: Literal["qwen2_5_vl", "qwen3_vl"] = "qwen3_vl"
    hidden_size: int = 96
    intermediate_size: int = 256
    num_layers: int = 3
    vision_depth: int = 2
    num_heads: int = 4
    patch_size: int = 14
    image_size: int = 112
    initializer_range: float = 0.08
    merged: list[str] = field(default_factory=list)
    seed: int = 0


def build(config: ScratchConfig) -> tuple[transformers.PreTrainedModel, Any]:
    """Build a model with random weights and its processor, with a byte-level tokenizer made in memory."""
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer(config.merged)
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in CONTROL_TOKENS}
    if config.family == "qwen2_5_vl":
        model_class: Any = transformers.Qwen2_5_VLForConditionalGeneration
        model_config: Any = transformers.Qwen2_5_VLConfig(**_model_config(config, ids, len(tokenizer)))
    else:
        model_class = transformers.Qwen3VLForConditionalGeneration
        model_config = transformers.Qwen3VLConfig(**_model_config(config, ids, len(tokenizer)))
    model = model_class(model_config)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]], pad_token_id=ids["<|endoftext|>"], do_sample=True
    )
    return model, _processor(config, tokenizer)


def save(config: ScratchConfig, folder: Path) -> None:
    """Build a model and write it as a Hugging Face folder."""
    for part in build(config):
        part.save_pretrained(folder)


def build_tokenizer(merged: Sequence[str]) -> Any:
    """Make a tokenizer of 256 bytes, Qwen's control tokens, and the strings that are one token each."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in merged])
    return Qwen2Tokenizer(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        model_max_length=32768,
        padding_side="left",
    )


def _model_config(config: ScratchConfig, ids: dict[str, int], vocabulary: int) -> dict[str, Any]:
    head = config.hidden_size // config.num_heads
    side = 3 * head // 16  # the height and width sections take 3/8 of the rotated half each, as in the released models
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [head // 2 - 2 * side, side, side],
    }
    common: dict[str, Any] = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "initializer_range": config.initializer_range,
    }
    text: dict[str, Any] = common | {
        "vocab_size": vocabulary,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads // 2,
        "max_position_embeddings": 32768,
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "rope_parameters": rope,
        "tie_word_embeddings": True,
    }
    vision: dict[str, Any] = common | {
        "depth": config.vision_depth,
        "num_heads": config.num_heads,
        "patch_size": config.patch_size,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": config.hidden_size,
    }
    if config.family == "qwen3_vl":
        text |= {"head_dim": head, "rope_parameters": rope | {"mrope_interleaved": True}}
        patches = (config.image_size // config.patch_size) ** 2
        vision |= {"num_position_embeddings": patches, "deepstack_visual_indexes": [0]}
    else:
        vision |= {"window_size": config.patch_size * 8, "fullatt_block_indexes": [config.vision_depth - 1]}
    return {
        "text_config": text,
        "vision_config": vision,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": True,
    }


def _processor(config: ScratchConfig, tokenizer: Any) -> Any:
    # TRL ships the chat templates of the released models as files.
    template = files("trl").joinpath("chat_templates", f"{config.family}.jinja").read_text(encoding="utf-8")
    size = {"shortest_edge": (2 * config.patch_size) ** 2, "longest_edge": config.image_size**2}
    options: dict[str, Any] = {"size": size, "patch_size": config.patch_size, "merge_size": 2, "temporal_patch_size": 2}
    images = transformers.Qwen2VLImageProcessor(**options)
    if config.family == "qwen2_5_vl":
        videos: Any = transformers.Qwen2VLVideoProcessor(**options)
        return transformers.Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=template)
    videos = transformers.Qwen3VLVideoProcessor(**options)
    return transformers.Qwen3VLProcessor(images, tokenizer, videos, chat_template=template)
