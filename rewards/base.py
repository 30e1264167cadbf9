"""From episodes to numbers: what a reward is, and how several make one."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from dialogues.episode import Episode


class Reward(Metric):
    """A number per episode, and its running mean.

    Override ``score`` for a reward of one episode, or ``score_group`` for one that is relative to its group. None (NaN
    in the group's tensor) means *not applicable*: it counts neither in the mean nor in the total.

    Unlike other metrics, ``forward`` returns the ``(G,)`` scores of the group it was given; ``compute`` returns the
    mean over all episodes since the last ``reset``, over all ranks.
    """

    #: Whether the segmenter has to run before this reward can be given.
    needs_masks: ClassVar[bool] = False
    #: Whether a failure of the segmenter has a score, as some published rewards have it.
    scores_failures: bool = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def score(self, episode: Episode) -> float | None:
        """Return the reward of one episode, or None if it does not apply."""
        raise NotImplementedError(f"{type(self).__name__} must override `score` or `score_group`")

    def score_group(self, group: Sequence[Episode]) -> Tensor:
        """Return the rewards of a group, ``float64 (G,)``, NaN where they do not apply.

        A score that is no number is infinite here: it is not left out as one that does not apply, and stays visible
        until GRPO skips its step.
        """
        scores = [self.score(episode) for episode in group]
        return torch.tensor([_number(score) for score in scores], dtype=torch.float64)

    def update(self, group: Sequence[Episode]) -> None:
        """Add the scores of a group to the running mean."""
        self._add(self.score_group(group))

    def compute(self) -> Tensor:
        """Return the mean score, NaN before the first."""
        return self.total / self.count

    def forward(self, group: Sequence[Episode]) -> Tensor:
        """Return the group's scores, ``float64 (G,)``, and add them to the running mean."""
        scores = self.score_group(group)
        self._add(scores)
        self._update_count += 1
        self._computed = None
        self._forward_cache = scores.nanmean()  # type: ignore[assignment]  # declared as None by torchmetrics
        return scores

    def _add(self, scores: Tensor) -> None:
        given = scores[~scores.isnan()].to(self.total)
        self.total += given.sum()
        self.count += given.numel()


class Scores(NamedTuple):
    """Rewards of one group, ``float64 (G,)`` each, NaN where a reward did not apply."""

    total: Tensor
    parts: dict[str, Tensor]


class RewardCollection(nn.Module):
    """Several rewards and their weighted sum.

    Args:
        rewards: by name.
        weights: by name; 1 where none is given, 0 keeps a reward in the log and out of the total, None removes it.

    Raises:
        ValueError: if a weight names no reward, or a name cannot be a module's.
    """

    def __init__(self, rewards: dict[str, Reward], weights: dict[str, float | None] | None = None) -> None:
        super().__init__()
        weights = weights or {}
        if unknown := sorted(set(weights) - set(rewards)):
            raise ValueError(f"`weights` names no reward: {unknown}; the rewards are {sorted(rewards)}")
        kept = {name: reward for name, reward in rewards.items() if weights.get(name, 1.0) is not None}
        if refused := [name for name in kept if not name or "." in name or hasattr(nn.ModuleDict, name)]:
            raise ValueError(f"Expected names a module can have (no '.', no method of ModuleDict), but got {refused}")
        self.rewards = nn.ModuleDict(kept)
        self.weights: dict[str, float] = {name: _weight(weights, name) for name in kept}

    @property
    def needs_masks(self) -> bool:
        """Whether any reward needs the segmenter."""
        return any(reward.needs_masks for reward in self._items().values())

    def forward(self, group: Sequence[Episode]) -> Scores:
        """Score one group of episodes.

        An episode whose segmenter failed is not scored, if a weighted reward needs masks: its total is NaN. So is that
        of an episode to which no weighted reward applies.
        """
        parts = {name: reward(group) for name, reward in self._items().items()}
        total = torch.zeros(len(group), dtype=torch.float64)
        applies = torch.zeros(len(group), dtype=torch.bool)
        for name, scores in parts.items():
            if self.weights[name] != 0:
                total += self.weights[name] * scores.masked_fill(scores.isnan(), 0.0)
                applies |= ~scores.isnan()
        strict = any(
            reward.needs_masks and not reward.scores_failures and self.weights[name] != 0
            for name, reward in self._items().items()
        )
        failed = torch.tensor([strict and episode.last.failure is not None for episode in group])
        return Scores(total.masked_fill(failed | ~applies, float("nan")), parts)

    def compute(self) -> dict[str, Tensor]:
        """Return the running mean of each reward, over all ranks."""
        return {name: reward.compute() for name, reward in self._items().items()}

    def reset(self) -> None:
        """Forget the running means."""
        for reward in self._items().values():
            reward.reset()

    def _items(self) -> dict[str, Reward]:
        return {name: reward for name, reward in self.rewards.items() if isinstance(reward, Reward)}


def _number(score: float | None) -> float:
    if score is None:
        return math.nan
    return math.inf if math.isnan(score) else score


def _weight(weights: dict[str, float | None], name: str) -> float:
    weight = weights.get(name, 1.0)
    return 1.0 if weight is None else float(weight)
