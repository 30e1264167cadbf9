"""TRL's ``GRPOTrainer`` as the oracle: it writes and scores completions, and differentiates its own loss."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from benchmarks.trl_peer import build_trainer, micro_batches, scored_batch
from dialogues.episode import Completion
from tests.lightning_modules.replay import DEFAULTS, Problem, Score, Step, Weights, gradients, load


class Oracle:
    """A ``GRPOTrainer`` that has written and scored one batch.

    Args:
        problem: what it trains on.
        folder: where it may write.
        accumulation: micro-batches per step.
        **settings: of ``GRPOConfig``.
    """

    def __init__(self, problem: Problem, folder: Path, accumulation: int = 1, **settings: Any) -> None:
        settings = DEFAULTS | settings
        reasoner = problem.reasoner
        self.trainer = build_trainer(
            deepcopy(problem.base),
            reasoner.processor,
            problem.samples,
            problem.chats,
            [_reward(name, score) for name, score in problem.scores.items()],
            folder,
            settings.pop("num_generations"),
            accumulation,
            peft_config=reasoner.lora and reasoner.lora.config(),
            reward_weights=problem.reward_weights,
            seed=1,
            # A likelier end: lengths differ, and some completions are cut off.
            generation_kwargs={"sequence_bias": [[[reasoner.end_token], 4.0]]},
            **settings,
        )
        load(self.trainer.model.train(), problem.policies[0])
        self.batch = scored_batch(self.trainer)
        self.rollout_metrics = self._metrics()

    def completions(self) -> list[list[Completion]]:
        """Return what was written, one group per sample."""
        tokenizer, ends = self.trainer.processing_class.tokenizer, self.trainer.eos_token_ids
        rows = []
        for padded in self.batch["completion_ids"].tolist():
            length = next((index + 1 for index, token in enumerate(padded) if token in ends), len(padded))
            text = tokenizer.decode(padded[:length], skip_special_tokens=True)
            rows.append(Completion(padded[:length], text, finished=padded[length - 1] in ends))
        size = self.trainer.num_generations
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def step(self, weights: Weights) -> Step:
        """Return what ``_compute_loss`` makes of the batch at a policy, over all micro-batches."""
        model = self.trainer.model
        load(model, weights)
        model.zero_grad()
        losses = [self.trainer._compute_loss(model, part) for part in micro_batches(self.trainer, self.batch)]
        total = torch.stack(losses).sum()
        total.backward()
        return Step(total.item(), gradients(model), self.batch["advantages"], self.rollout_metrics | self._metrics())

    def _metrics(self) -> dict[str, float]:
        return {name: values[-1] for name, values in self.trainer._metrics["train"].items()}


def _reward(name: str, score: Score) -> Callable[..., list[float | None]]:
    def reward(completions: Sequence[list[dict[str, str]]], **_: Any) -> list[float | None]:
        return [score(message["content"]) for (message,) in completions]

    reward.__name__ = name
    return reward
