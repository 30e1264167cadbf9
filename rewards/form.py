"""Rewards for keeping the prescribed form."""

from collections.abc import Sequence
from typing import Any

from dialogues.episode import Episode
from rewards.base import Reward


class Form(Reward):
    """How well the answer keeps the form its dialogue prescribes: the sum of the graded parts, each in [0, 1].

    The dialogue grades while it reads; nothing is parsed here. With Veason-R1's two parts the sum is up to 2, two
    fifths of the published total, and saturates soon after supervised training: give it a smaller weight where that
    drowns the other rewards. (Format reward R_f of Veason-R1; what is released in it is how the dialogue reads.)

    Args:
        parts: names in ``Answer.form``.

    Raises:
        KeyError: in ``score``, if the dialogue does not grade one of the parts.
    """

    def __init__(self, parts: Sequence[str] = ("think", "json"), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = tuple(parts)

    def score(self, episode: Episode) -> float:
        """Return the sum of the parts."""
        form = episode.last.answer.form
        if missing := [part for part in self.parts if part not in form]:
            raise KeyError(f"Expected `parts` among {sorted(form)}, which the dialogue grades, but got {missing}")
        return sum(form[part] for part in self.parts)
