"""Drawing tokens with noise that depends on what is drawn, never on where or beside what."""

from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from models.reasoners.base import Sampling


class TokenSampler:
    """Draws one token per row and step.

    The draw inverts the cumulative distribution at one uniform number per token. The numbers come from a counter-based
    generator keyed by (seed, step, sample, member), so a completion is the same in any batch, on any rank, after a
    resume, and with a shared or a repeated prompt.

    Args:
        sampling: temperature, truncation and seeds.
        names: of the samples, one per row.
        members: place of each row in its group.
        suppress: token ids that are never drawn.
    """

    def __init__(self, sampling: Sampling, names: list[str], members: list[int], suppress: Tensor) -> None:
        self.sampling = sampling
        self.suppress = suppress
        self.noise = torch.stack(
            [_uniform(sampling, name, member) for name, member in zip(names, members, strict=True)]
        ).to(suppress.device)

    def __call__(self, logits: Tensor, position: int, rows: Tensor | None = None) -> Tensor:
        """Draw one token for each of some rows.

        Args:
            logits: ``(n, vocabulary)``.
            position: of the tokens in their completions.
            rows: which rows these are, ``int64 (n,)``; None is all of them.

        Returns:
            Token ids ``int64 (n,)``.
        """
        logits = logits.float().index_fill(1, self.suppress, -torch.inf)
        if self.sampling.temperature == 0:
            return logits.argmax(dim=1)
        probabilities = (logits / self.sampling.temperature).softmax(dim=1).double()
        probabilities = _truncate(probabilities, self.sampling.top_k, self.sampling.top_p)
        cumulative = probabilities.cumsum(dim=1)
        noise = self.noise if rows is None else self.noise[rows]
        threshold = noise[:, position, None] * cumulative[:, -1:]
        # right=True skips tokens of probability zero; rounding at the very end must not leave the vocabulary.
        drawn = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
        return drawn.clamp(max=logits.shape[1] - 1)


def _uniform(sampling: Sampling, name: str, member: int) -> Tensor:
    digest = blake2b(f"{sampling.seed}/{sampling.step}/{member}/{name}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    return torch.from_numpy(generator.random(sampling.max_completion_length))


def _truncate(probabilities: Tensor, top_k: int, top_p: float) -> Tensor:
    """Zero the tokens outside the ``top_k`` likeliest and outside the smallest set that holds ``top_p``."""
    if top_k > 0:
        threshold = probabilities.topk(min(top_k, probabilities.shape[1]), dim=1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < threshold, 0.0)
    if top_p < 1:
        ordered, order = probabilities.sort(dim=1, descending=True)
        before = ordered.cumsum(dim=1) - ordered
        ordered = ordered.masked_fill(before >= top_p * ordered.sum(dim=1, keepdim=True), 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(1, order, ordered)
    return probabilities
