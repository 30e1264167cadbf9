"""Attention behind shared prompts equals attention over whole rows, computed from the definition."""

import pytest
import torch
from torch import Tensor

from models.reasoners.attention import PackedLayout, PrefixGroup
from models.reasoners.decoding import FIRST_ROOM, Decoding, PromptCache

HEADS, KV_HEADS, WIDTH = 6, 2, 8


def attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Return softmax(QK'/√d)V over what is visible, ``(heads, L, D)``, in float64."""
    query, key, value = query.double(), key.double(), value.double()
    key, value = (part.repeat_interleave(HEADS // KV_HEADS, dim=0) for part in (key, value))
    scores = (query @ key.mT / WIDTH**0.5).masked_fill(~visible, -torch.inf)
    return scores.softmax(-1) @ value


def states(length: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((HEADS, length, WIDTH), (KV_HEADS, length, WIDTH), (KV_HEADS, length, WIDTH))
    query, key, value = (torch.randn(shape, generator=generator) for shape in shapes)
    return query, key, value


@pytest.mark.parametrize(
    "groups",
    [
        [PrefixGroup(5)],
        [PrefixGroup(4, (3,))],
        [PrefixGroup(1, (1, 1))],
        [PrefixGroup(7, (2, 5, 1, 4))],
        [PrefixGroup(3, (2, 2)), PrefixGroup(6), PrefixGroup(2, (1, 6))],
    ],
)
def test_packed_attention_is_attention_under_a_block_mask(groups):
    owner = []  # of each token: its group, and its branch there, 0 for the prefix
    for number, group in enumerate(groups):
        owner += [(number, 0)] * group.prefix
        owner += [(number, branch) for branch, length in enumerate(group.branches, 1) for _ in range(length)]
    visible = torch.tensor(
        [
            [a <= q and owner[a][0] == owner[q][0] and owner[a][1] in (0, owner[q][1]) for a in range(len(owner))]
            for q in range(len(owner))
        ]
    )
    query, key, value = states(len(owner))
    found = PackedLayout(groups).attend(0, query[None], key[None], value[None])
    assert found.shape == (1, HEADS, len(owner), WIDTH)
    assert torch.allclose(found[0].double(), attention(query, key, value, visible), atol=1e-6)


@pytest.mark.parametrize("lengths", [[5], [3, 7, 1]], ids=["one_group", "several_groups"])
def test_decoding_is_attention_over_prompt_and_row(lengths):
    """Two layers, rows that leave at different times, and more tokens than there is room for at first."""
    layers, size = 2, 3
    prompts = [
        [states(length, seed=10 * number + layer) for layer in range(layers)] for number, length in enumerate(lengths)
    ]
    caches = [PromptCache() for _ in prompts]
    for cache, parts in zip(caches, prompts, strict=True):
        for layer, (query, key, value) in enumerate(parts):
            cache.attend(layer, query[None], key[None], value[None])
    decoding = Decoding(caches, size)
    rows = list(range(size * len(lengths)))
    written = {
        row: [states(2 * FIRST_ROOM + 5, seed=1000 + 10 * row + layer) for layer in range(layers)] for row in rows
    }
    for place in range(2 * FIRST_ROOM + 5):
        if place in (3, FIRST_ROOM):
            kept = torch.tensor([index for index, row in enumerate(rows) if row % (size + place % 2) != 1])
            decoding.keep(kept)
            rows = [rows[index] for index in kept.tolist()]
        decoding.step()
        for layer in range(layers):
            new = [[part[:, place : place + 1] for part in written[row][layer]] for row in rows]
            found = decoding.attend(layer, *(torch.stack(parts) for parts in zip(*new, strict=True)))
            for row, read in zip(rows, found, strict=True):
                _, *seen = prompts[row // size][layer]
                query, *own = (part[:, : place + 1] for part in written[row][layer])
                key, value = (torch.cat(parts, dim=1) for parts in zip(seen, own, strict=True))
                expected = attention(query[:, -1:], key, value, torch.ones(1, key.shape[1], dtype=torch.bool))
                assert torch.allclose(read.double(), expected, atol=1e-6)
    assert len({row // size for row in rows}) == len(lengths)
    assert len(rows) < size * len(lengths)
