"""Networks of SAM 2 with random weights: arguments of transformers' ``Sam2VideoConfig``."""

from typing import Any

#: 256 x 256 pixels, half the channels of the released ones, one layer of memory attention: for one core
SMALL: dict[str, Any] = {
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
#: SAM 2.1 hiera-L
HIERA_LARGE: dict[str, Any] = {
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
NETWORKS = {"small": SMALL, "hiera_large": HIERA_LARGE}
