"""Alarms that ring when a policy games its reward instead of answering."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from dialogues.episode import Episode
from lightning_modules.callbacks.records import scored_groups
from rewards.base import Scores

logger = logging.getLogger(__name__)

_ADVICE = {
    "equal_rewards": "groups teach nothing: the task is too easy or too hard, or a reward is constant",
    "cut_off": "answers run out of length: a reward pays for length, or `max_completion_length` is too small",
    "duplicates": "groups repeat one answer: raise `temperature`, or the policy has collapsed",
    "full_frame": "boxes cover the frame: a reward pays for covering instead of pointing",
}


class HackingAlarm(Callback):
    """Logs four shares of every training batch of a rank, and warns when one stays above its limit.

    ``alarms/equal_rewards``: groups whose rewards differ by less than 1e-6. ``alarms/cut_off``: answers without an end.
    ``alarms/duplicates``: answers that repeat another of their group. ``alarms/full_frame``: boxes that cover 90 % of
    the frame.

    Args:
        patience: batches in a row above the limit until a warning, and between two warnings.
        equal_rewards: limit, in [0, 1]; 1 switches the warning off.
        cut_off: limit.
        duplicates: limit.
        full_frame: limit.
    """

    def __init__(
        self,
        patience: int = 20,
        equal_rewards: float = 0.9,
        cut_off: float = 0.5,
        duplicates: float = 0.75,
        full_frame: float = 0.5,
    ) -> None:
        self.patience = patience
        self.limits = dict(zip(_ADVICE, (equal_rewards, cut_off, duplicates, full_frame), strict=True))
        self._streaks = dict.fromkeys(self.limits, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return how long each share has been above its limit, in batches."""
        return dict(self._streaks)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._streaks |= state_dict

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the shares of a batch, and count those above their limit."""
        groups = list(scored_groups(outputs))
        if not groups:
            return
        shares = hacking_shares(groups)
        pl_module.log_dict({f"alarms/{name}": share for name, share in shares.items()}, batch_size=len(groups))
        for name, share in shares.items():
            self._streaks[name] = self._streaks[name] + 1 if share > self.limits[name] else 0
            if self._streaks[name] and self._streaks[name] % self.patience == 0 and trainer.is_global_zero:
                logger.warning("alarms/%s is %.2f at step %d: %s", name, share, trainer.global_step, _ADVICE[name])


def hacking_shares(groups: Sequence[tuple[list[Episode], Scores]]) -> dict[str, float]:
    """Return the share of equal groups, of answers cut off and repeated, and of boxes that cover the frame."""
    episodes = [episode for group, _ in groups for episode in group]
    spreads = [_spread(scores.total) for _, scores in groups]
    distinct = sum(len({episode.last.completion.text for episode in group}) for group, _ in groups)
    covers = [cover for episode in episodes for cover in _covers(episode)]
    return {
        "equal_rewards": sum(spread < 1e-6 for spread in spreads) / len(groups),
        "cut_off": sum(not episode.last.completion.finished for episode in episodes) / len(episodes),
        "duplicates": 1 - distinct / len(episodes),
        "full_frame": sum(cover >= 0.9 for cover in covers) / max(len(covers), 1),
    }


def _spread(rewards: torch.Tensor) -> float:
    given = rewards[~rewards.isnan()]
    return float(given.max() - given.min()) if len(given) else 0.0


def _covers(episode: Episode) -> list[float]:
    """Return the share of the frame that each box covers."""
    height, width = episode.chat.size
    limit = torch.tensor([width, height, width, height], dtype=torch.float64)
    boxes = torch.minimum(episode.last.answer.boxes.double().clamp_min(0), limit)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp_min(0)
    return list((sides.prod(dim=1) / (height * width)).tolist())
