"""Prompts and answers in one padding-free row: what prompts have in common is there once, and no answer sees another.

A group of G answers shares a prompt that is nine tenths image tokens. A row ``[prompt, answer_1 … answer_G]`` holds
``P + G·R`` tokens where G rows would hold ``G·(P + R)``. Several questions about the same frames, or several turns that
began alike, share that beginning the same way: it is the prefix, and each branch is the rest of a prompt, its own
pictures included, with its answer. A token keeps the positions of its own prompt, so the numbers are those of separate
rows. Groups follow one another in the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from models.reasoners.attention import PrefixGroup
from models.reasoners.pictures import Picture


@dataclass
class EncodedPrompt:
    """A prompt as the network reads it.

    Args:
        token_ids: ``int64 (P,)``, one placeholder per merged patch of a picture.
        positions: M-RoPE, ``int64 (3, P)``.
        pictures: in the order of their placeholders.
        starts: for each picture, the place of its first placeholder.
    """

    token_ids: Tensor
    positions: Tensor
    pictures: list[Picture]
    starts: list[int]

    def common(self, other: "EncodedPrompt") -> int:
        """Return how many tokens both begin with; a picture is in common as a whole or not at all."""
        length = min(len(self.token_ids), len(other.token_ids))
        same = int((self.token_ids[:length] == other.token_ids[:length]).cumprod(dim=0).sum())
        pairs = zip(self.starts, self.pictures, other.pictures, strict=False)
        return min([same, *(start for start, mine, its in pairs if mine != its)])

    def shown(self, length: int) -> int:
        """Return how many pictures begin among the first ``length`` tokens."""
        return sum(start < length for start in self.starts)


class Attempt(NamedTuple):
    """A prompt, and the tokens of an answer to it."""

    prompt: EncodedPrompt
    answer: list[int]

    def behind(self, prefix: int) -> tuple[Tensor, Tensor]:
        """Return tokens ``(n,)`` and positions ``(3, n)`` of what follows the first ``prefix`` tokens."""
        prompt, answer = self.prompt, torch.tensor(self.answer, dtype=torch.long)
        # M-RoPE counts on from the largest position, which is less than the number of tokens behind pictures.
        after = int(prompt.positions.max()) + 1 + torch.arange(len(answer))
        return (
            torch.cat([prompt.token_ids[prefix:], answer]),
            torch.cat([prompt.positions[:, prefix:], after.expand(3, -1)], dim=1),
        )


@dataclass
class PackedRow:
    """Groups one after the other, each of which is a prefix and its branches.

    Args:
        token_ids: ``int64 (L,)``.
        positions: M-RoPE, ``int64 (3, L)``.
        groups: their numbers of tokens.
        pictures: in the order of their placeholders.
        predictors: ``int64 (tokens,)``: for each answer token in order, the place of the token before it.
        targets: ``int64 (tokens,)``: the answer tokens.
    """

    token_ids: Tensor
    positions: Tensor
    groups: list[PrefixGroup]
    pictures: list[Picture]
    predictors: Tensor
    targets: Tensor


def arrange(attempts: Sequence[Attempt]) -> list[list[Attempt]]:
    """Split attempts about the same frames into groups that share a prefix, in order.

    Either all of them share what their prompts have in common, or those that follow one another with one prompt share
    that prompt: whichever gives fewer tokens.
    """
    apart = [list(group) for _, group in groupby(attempts, key=lambda attempt: id(attempt.prompt))]
    together = list(attempts)
    return [together] if _length(together) < sum(map(_length, apart)) else apart


def pack(groups: Sequence[Sequence[Attempt]]) -> PackedRow:
    """Lay out groups of attempts, each of which shares the prefix that its prompts have in common."""
    tokens: list[Tensor] = []
    positions: list[Tensor] = []
    pictures: list[Picture] = []
    packed: list[PrefixGroup] = []
    predictors: list[Tensor] = []
    targets: list[Tensor] = []
    length = 0
    for group in groups:
        prefix, first = _prefix(group), group[0].prompt
        tokens.append(first.token_ids[:prefix])
        positions.append(first.positions[:, :prefix])
        pictures += first.pictures[: first.shown(prefix)]
        length += prefix
        fork = length - 1
        branches = []
        for attempt in group:
            tail, where = attempt.behind(prefix)
            prompt, asked = attempt.prompt, len(tail) - len(attempt.answer)
            tokens.append(tail)
            positions.append(where)
            pictures += [
                picture for start, picture in zip(prompt.starts, prompt.pictures, strict=True) if start >= prefix
            ]
            previous = torch.arange(length - 1, length + len(tail) - 1)
            previous[:1] = fork  # a branch begins where the prefix ends, not where the branch before it does
            predictors.append(previous[asked:])
            targets.append(tail[asked:])
            branches.append(len(tail))
            length += len(tail)
        packed.append(PrefixGroup(prefix, tuple(branches)) if len(group) > 1 else PrefixGroup(prefix + branches[0]))
    return PackedRow(
        torch.cat(tokens), torch.cat(positions, dim=1), packed, pictures, torch.cat(predictors), torch.cat(targets)
    )


def _prefix(group: Sequence[Attempt]) -> int:
    first = group[0].prompt
    return min(first.common(attempt.prompt) for attempt in group)


def _length(group: Sequence[Attempt]) -> int:
    prefix = _prefix(group)
    return prefix + sum(len(attempt.prompt.token_ids) - prefix + len(attempt.answer) for attempt in group)
