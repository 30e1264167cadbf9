"""Several answers behind one prompt in one row: every token is computed once, and no answer sees another.

A group of G answers shares a prompt that is nine tenths image tokens. One row ``[prompt, answer_1 … answer_G]`` holds
``P + G·R`` tokens where G rows would hold ``G·(P + R)``. A token attends to the prompt and to the earlier tokens of its
own answer, and each answer continues the prompt's positions, so the numbers are those of G separate rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class PackedRows:
    """Prompts with their answers, padded on the right.

    Args:
        token_ids: ``int64 (rows, length)``.
        positions: ``int64 (3, rows, length)``, M-RoPE.
        branch: ``int64 (rows, length)``: 0 in the prompt, i in answer i, -1 in the padding.
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


def pack(
    prompts: Sequence[Tensor], prompt_positions: Sequence[Tensor], answers: Sequence[Sequence[Sequence[int]]], pad: int
) -> PackedRows:
    """Lay out one row per prompt.

    Args:
        prompts: token ids ``int64 (P_i,)``.
        prompt_positions: their M-RoPE positions ``int64 (3, P_i)``.
        answers: for each prompt, the token ids of its answers, each of any length.
        pad: token id of the padding.
    """
    length = max(len(prompt) + sum(map(len, group)) for prompt, group in zip(prompts, answers, strict=True))
    shape = (len(prompts), length)
    token_ids = torch.full(shape, pad)
    positions = torch.zeros(3, *shape, dtype=torch.long)
    branch = torch.full(shape, -1)
    predictors: list[Tensor] = []
    targets: list[Tensor] = []
    for row, (prompt, where, group) in enumerate(zip(prompts, prompt_positions, answers, strict=True)):
        cursor = len(prompt)
        token_ids[row, :cursor], positions[:, row, :cursor], branch[row, :cursor] = prompt, where, 0
        first = int(where.max()) + 1
        for number, answer in enumerate(group, start=1):
            span = slice(cursor, cursor + len(answer))
            ids, steps = torch.tensor(answer, dtype=torch.long), torch.arange(len(answer))
            token_ids[row, span], positions[:, row, span], branch[row, span] = ids, first + steps, number
            previous = cursor + steps - 1
            previous[:1] = len(prompt) - 1  # the first token of every answer is predicted by the end of the prompt
            predictors.append(row * length + previous)
            targets.append(ids)
            cursor = span.stop
    return PackedRows(token_ids, positions, branch, torch.cat(predictors), torch.cat(targets))


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
