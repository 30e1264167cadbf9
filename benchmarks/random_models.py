"""Models with random weights in the sizes that the benchmarks of training ask for: Qwen2.5-VL and SAM 2."""

import torchvision_shim  # noqa: F401, I001

from pathlib import Path
from typing import Any

import torch
import transformers
import yaml

from models.reasoners import scratch
from models.segmenters import SAM2Segmenter

#: Arguments of transformers' ``Sam2VideoConfig``: 2.8 million weights for one core, 256 x 256 pixels, half the channels
#: of the released networks and one layer of memory attention.
SAM2_SMALL: dict[str, Any] = {
    "image_size": 256,
    "initializer_range": 0.06,  # at the usual 0.02 masks hardly differ
    "vision_config": {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "image_size": [256, 256],
            "hidden_size": 32,
            "num_attention_heads": 1,
            "blocks_per_stage": [1, 2, 3, 1],
            "embed_dim_per_stage": [32, 64, 128, 256],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [8, 4, 8, 4],
            "global_attention_blocks": [4],
            "window_positional_embedding_background_size": [7, 7],
        },
        "backbone_channel_list": [256, 128, 64, 32],
        "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]],
        "fpn_hidden_size": 128,
    },
    "prompt_encoder_config": {"hidden_size": 128, "image_size": 256},
    "mask_decoder_config": {"hidden_size": 128, "mlp_dim": 256, "iou_head_hidden_dim": 128},
    "memory_attention_hidden_size": 128,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 256,
    "memory_attention_rope_feat_sizes": [16, 16],
    "memory_encoder_hidden_size": 128,
    "mask_downsampler_embed_dim": 128,
    "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 256,
}
#: The same of SAM 2.1 hiera-L.
SAM2_HIERA_LARGE: dict[str, Any] = {
    "vision_config": {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 144,
            "embed_dim_per_stage": [144, 288, 576, 1152],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "blocks_per_stage": [2, 6, 36, 4],
            "window_size_per_stage": [8, 4, 16, 8],
            "global_attention_blocks": [23, 33, 43],
            "window_positional_embedding_background_size": [7, 7],
        },
        "backbone_channel_list": [1152, 576, 288, 144],
    },
}
#: Words of the prompt that are one token each, so that nearly all of a prompt is frames.
WORDS = ["You are a helpful assistant.", "Segment the one that changes direction."]


def save_mid_size(folder: Path, hidden_size: int = 256, num_layers: int = 8, image_size: int = 364) -> None:
    """Write a Qwen2.5-VL that is large enough to be bound by arithmetic on a CPU core.

    Args:
        folder: where to.
        hidden_size: width of the language model and of the vision tower; a multiple of 32.
        num_layers: depth of the language model; the vision tower is half as deep.
        image_size: side of the largest image in pixels.
    """
    config = scratch.ScratchConfig(
        family="qwen2_5_vl",
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_layers=num_layers,
        vision_depth=num_layers // 2,
        num_heads=hidden_size // 32,
        image_size=image_size,
        initializer_range=0.05,
        merged=WORDS,
    )
    scratch.save(config, folder)


def save_qwen2_5_vl_3b(folder: Path, device: str, image_size: int = 952) -> None:
    """Write a model of the shape of Qwen2.5-VL-3B: 3.8 billion bfloat16 weights, 7.5 GB, drawn on ``device``.

    Its processor is the small models': 256 bytes and the control tokens, at the beginning of the vocabulary.

    Args:
        folder: where to.
        device: where the weights are drawn; it takes minutes on a CPU.
        image_size: side of the largest image in pixels.
    """
    small, processor = scratch.build(scratch.ScratchConfig("qwen2_5_vl", image_size=image_size, merged=WORDS))
    config = shape_of_3b(small.config)
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.generation_config = small.generation_config
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def small_sam2() -> SAM2Segmenter:
    """Return a SAM 2 of 1.3 million weights, that of ``configs/demo/sam2_tiny.yaml``."""
    settings = yaml.safe_load((Path(__file__).parents[1] / "configs" / "demo" / "sam2_tiny.yaml").read_text())
    return SAM2Segmenter(**settings["init_args"])


def shape_of_3b(config: Any) -> Any:
    """Return the configuration of a small Qwen2.5-VL at the size of Qwen2.5-VL-3B; its control tokens are kept."""
    settings = config.to_dict()
    settings["text_config"] |= {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "layer_types": ["full_attention"] * 36,
        "max_position_embeddings": 128_000,
        "initializer_range": 0.02,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }
    settings["vision_config"] |= {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "initializer_range": 0.02,
    }
    return type(config).from_dict(settings)
