"""Decoding many rows behind few prompts: a prompt's keys and values are computed, kept and read once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.reasoners.attention import Layout, sdpa

#: Tokens that each row has room for at first; the room doubles when it is full.
FIRST_ROOM = 64


class PromptCache(Layout):
    """Reads one prompt, and keeps its keys and values, ``(kv_heads, P, D)`` by layer."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Let each token see those before it."""
        self.keys.append(key[0])
        self.values.append(value[0])
        return sdpa(query, key, value, is_causal=True)


class Decoding(Layout):
    """Rows that go on from prompts, by one token each at every pass.

    A token attends in two parts under one softmax: to the keys of its prompt, which are read once for all rows behind
    it (Hydragen, arXiv 2402.05099), and to those of its own row. A pass reads ``groups·P + rows·R`` keys, where caches
    expanded to the rows have ``rows·(P + R)``.

    Args:
        prompts: one per group; what they kept is moved here.
        group_size: rows behind each prompt.
    """

    def __init__(self, prompts: Sequence[PromptCache], group_size: int) -> None:
        lengths = torch.tensor([prompt.keys[0].shape[1] for prompt in prompts])
        #: keys and values of prompts by layer, ``(groups, kv_heads, P, D)`` with the longest prompt's P
        self._shared = [
            (
                _stacked([prompt.keys.pop(0) for prompt in prompts]),
                _stacked([prompt.values.pop(0) for prompt in prompts]),
            )
            for _ in range(len(prompts[0].keys))
        ]
        _, heads, longest, width = self._shared[0][0].shape
        device = self._shared[0][0].device
        #: which of them are no padding, ``bool (groups, 1, 1, P)``
        self._valid = (torch.arange(longest) < lengths[:, None])[:, None, None].to(device)
        #: the group of each row, ``int64 (rows,)`` on the CPU
        self._group = torch.arange(len(prompts)).repeat_interleave(group_size)
        #: keys and values of rows by layer, ``(rows, kv_heads, room, D)``; under autocast keys, which are rotated, may
        #: be of another dtype than values
        room = (len(self._group), heads, FIRST_ROOM, width)
        self._own = [(_fixed(keys.new_zeros(room)), _fixed(values.new_zeros(room))) for keys, values in self._shared]
        #: which of them are written, ``bool (room,)``, how many, and the place of the last, ``int64 (1,)``
        self._seen = torch.zeros(FIRST_ROOM, dtype=torch.bool, device=device)
        self._length = 0
        self._place = torch.full((1,), -1, device=device)
        self._arrange()

    def step(self) -> None:
        """Make room for the next token of every row."""
        if self._length == len(self._seen):
            self._own = [(_fixed(_doubled(keys, 2)), _fixed(_doubled(values, 2))) for keys, values in self._own]
            self._seen = _doubled(self._seen, 0)
        self._length += 1
        self._place += 1
        self._seen[self._place] = True

    def keep(self, rows: Tensor) -> None:
        """Let all rows leave but these, ``int64 (kept,)`` in order."""
        self._group = self._group[rows.cpu()]
        self._own = [(_fixed(keys[rows]), _fixed(values[rows])) for keys, values in self._own]
        self._arrange()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Let the new token of each row see its prompt and its row, itself included."""
        own_keys, own_values = self._own[layer]
        own_keys.index_copy_(2, self._place, key)
        own_values.index_copy_(2, self._place, value)
        prompt_keys, prompt_values = self._shared[layer]
        query = query.view(len(query), own_keys.shape[1], -1, query.shape[3])  # heads by the keys that they share
        to_prompt = self._to_rows((self._to_groups(query) @ prompt_keys.mT).where(self._valid, -torch.inf))
        to_own = (query @ own_keys.mT).where(self._seen, -torch.inf)
        scores = torch.cat([to_prompt, to_own], dim=3) * query.shape[3] ** -0.5
        weights = scores.softmax(dim=3, dtype=torch.float32).to(value.dtype)
        on_prompt, on_own = weights.split([prompt_keys.shape[2], own_keys.shape[2]], dim=3)
        read = self._to_rows(self._to_groups(on_prompt) @ prompt_values) + on_own @ own_values
        attended: Tensor = read.reshape(len(read), -1, 1, read.shape[3])
        return attended

    def _arrange(self) -> None:
        """Note where each row is among those of its group, which need not be as many in every group."""
        counts = torch.bincount(self._group, minlength=len(self._valid))
        self._slots = int(counts.max())
        slot = torch.arange(len(self._group)) - (counts.cumsum(dim=0) - counts)[self._group]
        place = self._group * self._slots + slot
        row = torch.zeros(len(counts) * self._slots, dtype=torch.long)
        row[place] = torch.arange(len(place))
        self._row_of_slot, self._slot_of_row = row.to(self._place.device), place.to(self._place.device)

    def _to_groups(self, rows: Tensor) -> Tensor:
        """Return ``(rows, kv_heads, n, x)`` as ``(groups, kv_heads, slots·n, x)``."""
        groups, (_, heads, n, width) = len(self._valid), rows.shape
        slots = rows[self._row_of_slot].view(groups, self._slots, heads, n, width)
        return slots.transpose(1, 2).reshape(groups, heads, self._slots * n, width)

    def _to_rows(self, groups: Tensor) -> Tensor:
        """Do the reverse."""
        number, heads, n, width = groups.shape
        slots = groups.view(number, heads, self._slots, n // self._slots, width).transpose(1, 2)
        return slots.flatten(0, 1)[self._slot_of_row]


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Return ``(kv_heads, P, D)`` of each prompt as ``(prompts, kv_heads, longest, D)``; one is not copied."""
    if len(parts) == 1:
        return parts[0][None]
    return pad_sequence([part.transpose(0, 1) for part in parts], batch_first=True).transpose(1, 2)


def _doubled(buffer: Tensor, dim: int) -> Tensor:
    return torch.cat([buffer, torch.zeros_like(buffer)], dim)


def _fixed(buffer: Tensor) -> Tensor:
    """Say that a buffer stays where it is, which CUDA graphs want of what they write to."""
    torch._dynamo.mark_static_address(buffer)
    return buffer
