"""Who attends to whom in one padding-free row, as attention functions of transformers' language models.

A pass over a language model takes the keyword ``layout``, which every layer hands to the attention function registered
here; without it the function is transformers' own for SDPA.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

#: the name of the function, for ``attn_implementation``
SHARED_PREFIX = "shared_prefix"


class Layout(ABC):
    """What the tokens of one pass are to each other."""

    @abstractmethod
    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend in one layer.

        Args:
            layer: its number.
            query: ``(B, heads, L, D)``, rotated.
            key: ``(B, kv_heads, L, D)``, rotated.
            value: ``(B, kv_heads, L, D)``.

        Returns:
            ``(B, heads, L, D)``.
        """


@dataclass(frozen=True)
class PrefixGroup:
    """Consecutive tokens of a row: a prefix that all of them may see, and the branches behind it.

    Args:
        prefix: its number of tokens, each of which sees those before it.
        branches: number of tokens of each; a token sees the prefix and those before it in its own branch.
    """

    prefix: int
    branches: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.prefix + sum(self.branches)


class PackedLayout(Layout):
    """Groups one after the other in one row, none of which sees another; without padding and without a block mask.

    A prefix attends to itself by the causal kernel. The branches of a group attend as a batch, each to the keys of
    the prefix with its own behind them (Prefix Grouper, arXiv 2506.05433). For G branches of R tokens behind P this is
    ``P²/2 + G·R·(P + R/2)`` pairs, where separate rows have ``G·(P + R)²/2``.

    Args:
        groups: of the row, in order.
    """

    def __init__(self, groups: Sequence[PrefixGroup]) -> None:
        self.groups = groups

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend group by group."""
        lengths = [group.length for group in self.groups]
        parts = zip(self.groups, *(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
        return torch.cat([part for group in parts for part in _attend(*group)], dim=2)


def _attend(group: PrefixGroup, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """Return what a group's prefix and its branches read, each ``(1, heads, length, D)``."""
    prefix = group.prefix
    shared_query, shared_key, shared_value = (tensor[:, :, :prefix] for tensor in (query, key, value))
    read = [sdpa(shared_query, shared_key, shared_value, is_causal=True)]
    if group.branches:
        own_query, own_key, own_value = (_batched(tensor[0, :, prefix:], group) for tensor in (query, key, value))
        keys, values = (
            torch.cat([seen.expand(len(group.branches), -1, -1, -1), own], dim=2)
            for seen, own in ((shared_key, own_key), (shared_value, own_value))
        )
        # Keys beyond the end of a short branch come later than all its queries, so causality hides them.
        visible = torch.ones(own_query.shape[2], keys.shape[2], dtype=torch.bool, device=query.device).tril(prefix)
        batch = sdpa(own_query, keys, values, visible)
        read += [branch[None, :, :length] for branch, length in zip(batch, group.branches, strict=True)]
    return read


def _batched(tensor: Tensor, group: PrefixGroup) -> Tensor:
    """Return the branches in ``(heads, tokens, D)`` as a batch ``(branches, heads, longest, D)``, zeros at the ends."""
    branches = tensor.transpose(0, 1).split(group.branches)
    return pad_sequence(branches, batch_first=True).transpose(1, 2)


def sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Attend by torch's fused kernels; ``key`` and ``value`` may have fewer heads than ``query``."""
    # CUDA's kernels for masks, and those for float32, want as many.
    if query.is_cuda and (mask is not None or query.dtype == torch.float32):
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, mask, is_causal=is_causal, enable_gqa=grouped)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    layer: Any = module.layer_idx
    return layout.attend(layer, query, key, value).transpose(1, 2), None


AttentionInterface.register(SHARED_PREFIX, _attention)
# For passes without a layout: with one, transformers finds nothing to mask, because there is no padding.
AttentionMaskInterface.register(SHARED_PREFIX, sdpa_mask)
