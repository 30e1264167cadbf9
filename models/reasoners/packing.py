"""Several answers behind one prompt in one row: every token is computed once, and no answer sees another.

A group of G answers shares a prompt that is nine tenths image tokens. One row ``[prompt, answer_1 … answer_G]`` holds
``P + G·R`` tokens where G rows would hold ``G·(P + R)``. Several questions about the same frames share the frames the
same way: what their prompts have in common is the prefix, and each branch is the rest of a prompt with its answer. A
token attends to the prefix and to the earlier tokens of its own branch, and keeps the positions of its own prompt, so
the numbers are those of separate rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Sequences:
    """Prompts that begin alike, each with its answers.

    Args:
        prompts: token ids ``int64 (P_i,)``.
        positions: their M-RoPE positions ``int64 (3, P_i)``.
        answers: for each prompt, the token ids of its answers, each of any length.
    """

    prompts: list[Tensor]
    positions: list[Tensor]
    answers: list[list[list[int]]]

    @classmethod
    def joined(cls, rows: "Sequence[Sequences]") -> "Sequences":
        """Return everything that several rows hold."""
        return cls(
            prompts=[prompt for row in rows for prompt in row.prompts],
            positions=[positions for row in rows for positions in row.positions],
            answers=[answers for row in rows for answers in row.answers],
        )

    @property
    def prefix_length(self) -> int:
        """How many tokens all prompts have in common from the start."""
        shortest = min(map(len, self.prompts))
        heads = torch.stack([prompt[:shortest] for prompt in self.prompts])
        return int((heads == heads[0]).all(dim=0).cumprod(dim=0).sum())

    @property
    def length(self) -> int:
        """Number of tokens of the row."""
        prefix = self.prefix_length
        pairs = zip(self.prompts, self.answers, strict=True)
        return prefix + sum(len(prompt) - prefix + len(answer) for prompt, group in pairs for answer in group)


@dataclass
class PackedRows:
    """Rows of a prefix and its branches, padded on the right.

    Args:
        token_ids: ``int64 (rows, length)``.
        positions: ``int64 (3, rows, length)``, M-RoPE.
        branch: ``int64 (rows, length)``: 0 in the prefix, i in branch i, -1 in the padding.
        predictors: ``int64 (tokens,)``: for each answer token in order, the flat index of the position before it.
        targets: ``int64 (tokens,)``: the answer tokens.
    """

    token_ids: Tensor
    positions: Tensor
    branch: Tensor
    predictors: Tensor
    targets: Tensor

    def attention_mask(self) -> Tensor:
        """Return who may attend to whom, ``bool (rows, 1, length, length)``, queries before keys."""
        length = self.branch.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.branch.device).tril()
        queries, keys = self.branch[:, :, None], self.branch[:, None, :]
        return (causal & ((keys == 0) | (keys == queries)))[:, None]


def pack(rows: Sequence[Sequences], pad: int) -> PackedRows:
    """Lay out one row for each set of prompts that begin alike.

    Args:
        rows: what each row holds.
        pad: token id of the padding.
    """
    shape = (len(rows), max(row.length for row in rows))
    packed = PackedRows(
        token_ids=torch.full(shape, pad),
        positions=torch.zeros(3, *shape, dtype=torch.long),
        branch=torch.full(shape, -1),
        predictors=torch.zeros(0, dtype=torch.long),
        targets=torch.zeros(0, dtype=torch.long),
    )
    predictors, targets = [], []
    for index, row in enumerate(rows):
        before, answered = _fill(packed, index, row)
        predictors.append(index * shape[1] + before)
        targets.append(answered)
    packed.predictors, packed.targets = torch.cat(predictors), torch.cat(targets)
    return packed


def _fill(packed: PackedRows, index: int, row: Sequences) -> tuple[Tensor, Tensor]:
    """Write one row; return the position before each answer token, and the answer tokens."""
    prefix = cursor = row.prefix_length
    ids, positions, branch = packed.token_ids[index], packed.positions[:, index], packed.branch[index]
    ids[:prefix], positions[:, :prefix], branch[:prefix] = row.prompts[0][:prefix], row.positions[0][:, :prefix], 0
    number = 0
    predictors, targets = [], []
    for prompt, where, answers in zip(row.prompts, row.positions, row.answers, strict=True):
        for answer in answers:
            number += 1
            wanted = torch.tensor(answer, dtype=torch.long)
            ahead = int(where.max()) + 1 + torch.arange(len(answer))
            tokens = torch.cat([prompt[prefix:], wanted])
            span = slice(cursor, cursor + len(tokens))
            ids[span], branch[span] = tokens, number
            positions[:, span] = torch.cat([where[:, prefix:], ahead.expand(3, -1)], dim=1)
            previous = torch.arange(cursor - 1, span.stop - 1)
            previous[:1] = prefix - 1  # a branch begins where the prefix ends, not where the branch before it does
            predictors.append(previous[len(tokens) - len(answer) :])
            targets.append(wanted)
            cursor = span.stop
    return torch.cat(predictors), torch.cat(targets)


def left_pad(prompts: Sequence[Tensor], prompt_positions: Sequence[Tensor], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Align prompts at their ends, where generation starts.

    Returns:
        Token ids ``int64 (rows, length)``, positions ``int64 (3, rows, length)`` and validity ``bool (rows, length)``.
    """
    length = max(map(len, prompts))
    token_ids = torch.full((len(prompts), length), pad)
    positions = torch.zeros(3, len(prompts), length, dtype=torch.long)
    valid = torch.zeros(len(prompts), length, dtype=torch.bool)
    for row, (prompt, where) in enumerate(zip(prompts, prompt_positions, strict=True)):
        start = length - len(prompt)
        token_ids[row, start:], positions[:, row, start:], valid[row, start:] = prompt, where, True
    return token_ids, positions, valid
