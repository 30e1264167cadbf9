"""The cost model of an update: how many floating-point operations a group needs, with and without a shared prompt."""

from collections.abc import Sequence
from typing import Any

from torch import nn


def update_flops(model: Any, prompt: int, answers: Sequence[int], grid: Sequence[Sequence[int]], shared: bool) -> float:
    """Return the operations of log-probabilities and their gradients, nothing of which is computed twice.

    A forward pass takes 2 per weight and token it is applied to, and 4 per channel and pair in attention, where a token
    meets itself and what it may see; the backward pass takes twice as many. Tokens of the language model are those of
    the prompt and of the answers; the head is applied to the tokens of answers only, embeddings take nothing; the
    vision tower reads patches and its merger merged ones. Norms and biases count as weights, softmax and activations
    are not counted, nor is anything recomputed.

    Args:
        model: a Qwen2.5-VL model of transformers.
        prompt: tokens of the prompt.
        answers: tokens of each answer.
        grid: patches of each image over time, height and width.
        shared: whether prompt and images are computed once, or for each answer.
    """
    config = model.config.text_config
    channels = model.model.language_model.layers[0].self_attn.head_dim * config.num_attention_heads
    times = 1 if shared else len(answers)
    tokens = times * prompt + sum(answers)
    pairs = times * prompt * (prompt + 1) / 2 + sum(n * prompt + n * (n + 1) / 2 for n in answers)
    forward = 2.0 * weights(model.model.language_model.layers) * tokens
    forward += 4.0 * channels * config.num_hidden_layers * pairs
    forward += 2.0 * model.lm_head.weight.numel() * sum(answers)
    forward += times * vision_flops(model.model.visual, grid)
    return float(3 * forward)


def vision_flops(tower: Any, grid: Sequence[Sequence[int]]) -> float:
    """Return the operations of a forward pass of the vision tower over all images."""
    config = tower.config
    merged = config.spatial_merge_size**2
    window = (config.window_size // config.patch_size) ** 2
    everywhere = len(config.fullatt_block_indexes)
    total = 0.0
    for time, height, width in grid:
        patches = time * height * width
        total += 2.0 * patches * (weights(tower.patch_embed) + weights(tower.blocks))
        total += 2.0 * patches / merged * weights(tower.merger)
        pairs = everywhere * height * width + (config.depth - everywhere) * min(window, height * width)
        total += 4.0 * config.hidden_size * patches * pairs
    return total


def weights(module: nn.Module) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())
