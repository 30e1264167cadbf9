"""Group relative policy optimisation (arXiv 2402.03300) of a reasoner, in the order in which it happens.

What the answers of a group have in common is computed once, with the same numbers: features of frames
(``models/reasoners/vision.py``), the prompt in the rollout (``decoding.py``) and for log-probabilities and gradients
(``packing.py``), masks of frames and objects (``models/segmenters/lock_step.py``).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datamodules.structures import VideoSample
from dialogues.episode import Episode
from lightning_modules.policy.advantages import ScaleRewards, equal_groups, group_advantages
from lightning_modules.policy.losses import LossInputs, Normalizers, PolicyLoss
from lightning_modules.training import TrainingModule
from models.reasoners.base import Sampling
from rewards.base import Scores


class GRPOModule(TrainingModule):
    """Learns from its own answers: those that score above their group become likelier.

    One batch of samples is one rollout batch: ``num_generations`` answers per sample, their rewards, their advantages,
    and ``num_iterations`` steps. Names are TRL's wherever the meaning is.

    Args:
        loss: the objective; ``loss.beta`` above 0 keeps a reference policy.
        num_generations: answers per sample, at least 2.
        num_iterations: steps per rollout batch.
        scale_rewards: what a deviation from the group's mean is divided by.
        advantage_eps: added to that divisor.
        temperature: of the rollout, and of the policy whose likelihood is trained.
        top_p: of the rollout.
        top_k: of the rollout.
        mask_truncated_completions: leave answers that ran out of length out of the loss.
        seed: of the rollout's noise.
        **kwargs: of ``TrainingModule``; ``rewards`` are needed.

    Raises:
        ValueError: on settings that cannot train.
    """

    def __init__(
        self,
        loss: PolicyLoss | None = None,
        num_generations: int = 8,
        num_iterations: int = 1,
        scale_rewards: ScaleRewards = "group",
        advantage_eps: float = 1e-4,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        mask_truncated_completions: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_generations < 2:
            raise ValueError(
                f"Expected `num_generations` to be at least 2, but got {num_generations}: "
                "the advantage of a group of one is always 0"
            )
        if not any(self.rewards.weights.values()):
            raise ValueError(f"Expected `rewards` to train on, but the weights are {self.rewards.weights}")
        self.loss = loss or PolicyLoss()
        self.num_generations = num_generations
        self.num_iterations = num_iterations
        self.scale_rewards: ScaleRewards = scale_rewards
        self.advantage_eps = advantage_eps
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.mask_truncated_completions = mask_truncated_completions
        self.seed = seed

    def configure_model(self) -> None:
        """Load the reasoner, and keep its initial policy if the loss refers to it."""
        super().configure_model()
        if self.loss.beta:
            self.reasoner.keep_reference()

    def training_step(self, batch: list[VideoSample], batch_idx: int) -> dict[str, Any]:
        """Roll out, score, and step."""
        with self.parallelism.whole_weights(self), self.reasoner.seeing_once():
            with self._phase("rollout"):
                groups = self._answer(batch, self.num_generations, self._sampling())
            with self._phase("segment"):
                if self.rewards.needs_masks:
                    self._segment(groups, "shown")
            with self._phase("reward"):
                scores = [self.rewards(group) for group in groups]
            episodes = [episode for group in groups for episode in group]
            chunks = self._chunks(episodes)
            with self._phase("logprobs"):
                old = self._fixed(episodes, chunks) if self.num_iterations > 1 else None
                with self.reasoner.reference() if self.loss.beta else nullcontext():
                    reference = self._fixed(episodes, chunks) if self.loss.beta else None
        ranks = self._gather(self._numbers(episodes, scores))
        everyone = _joined(ranks)
        self._log_rollout(everyone)
        experience = Experience(episodes, *self._lessons(ranks, episodes), self._normalizers(everyone), old, reference)
        with self._phase("update"):
            for _ in range(self.num_iterations):
                self._update(experience, chunks)
        return {"groups": groups, "scores": scores}

    def _sampling(self) -> Sampling:
        step = self.trainer.fit_loop.total_batch_idx
        return Sampling(self.max_completion_length, self.temperature, self.top_p, self.top_k, self.seed, step)

    @torch.no_grad()
    def _fixed(self, episodes: Sequence[Episode], chunks: Sequence[slice]) -> list[Tensor]:
        """Return log-probabilities per micro-batch that will not change while the policy does."""
        return [self.reasoner.logprobs(episodes[chunk], self.temperature).logprobs for chunk in chunks]

    def _numbers(self, episodes: Sequence[Episode], scores: Sequence[Scores]) -> dict[str, Tensor]:
        """Return what is known of each episode of this rank, ``(B,)`` each, by name."""
        completions = [episode.last.completion for episode in episodes]
        parts = {f"rewards/{name}": [score.parts[name] for score in scores] for name in self.rewards.weights}
        return {name: torch.cat([_NONE, *values]) for name, values in parts.items()} | {
            "reward": torch.cat([_NONE, *(score.total for score in scores)]),
            "length": torch.tensor([float(len(completion.token_ids)) for completion in completions]),
            "finished": torch.tensor([float(completion.finished) for completion in completions]),
            "failed": torch.tensor([float(episode.last.failure is not None) for episode in episodes]),
        }

    def _lessons(self, ranks: Sequence[dict[str, Tensor]], episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
        """Return the advantage of each of this rank's episodes, and whether its tokens count, ``(B,)`` each."""
        rewards = [rank["reward"] for rank in ranks]
        advantages = group_advantages(
            torch.cat(rewards), self.num_generations, self.scale_rewards, self.advantage_eps
        ).split([len(rank) for rank in rewards])[self.global_rank]
        # What was drawn from logits that are no numbers teaches nothing: the step is skipped.
        drawn = torch.tensor([episode.last.completion.drawn_from_numbers for episode in episodes])
        counted = self._counted(ranks[self.global_rank])
        return advantages.masked_fill(~drawn.bool(), torch.nan).to(self.device), counted.to(self.device)

    def _counted(self, numbers: dict[str, Tensor]) -> Tensor:
        """Return whose tokens count, ``bool (B,)``."""
        counted = ~numbers["reward"].isnan()
        return counted & numbers["finished"].bool() if self.mask_truncated_completions else counted

    def _normalizers(self, numbers: dict[str, Tensor]) -> Normalizers:
        """Return the counts of the whole batch, from the numbers of all ranks."""
        tokens = numbers["length"].double() * self._counted(numbers)
        return Normalizers(float(tokens.sum()), float(len(tokens)), self.trainer.world_size)

    def _update(self, experience: "Experience", chunks: Sequence[slice]) -> None:
        """Take one step."""
        metrics: dict[str, Tensor] = {}

        def share(number: int, chunk: slice) -> Tensor:
            output = self._policy(experience.episodes[chunk], self.temperature)
            inputs = LossInputs(
                logprobs=output.logprobs,
                advantages=experience.advantages[chunk],
                mask=output.mask & experience.counted[chunk, None],
                old_logprobs=experience.old[number] if experience.old else None,
                ref_logprobs=experience.reference[number] if experience.reference else None,
                entropy=output.entropy if self.loss.entropy_coef else output.entropy.detach(),
            )
            outputs = self.loss(inputs, experience.normalizers)
            for name, value in outputs.metrics.items():
                metrics[name] = metrics.get(name, 0.0) + value
            return outputs.loss

        self._step(experience.episodes, chunks, share)
        self.log_dict(metrics, sync_dist=True, batch_size=1)

    def _log_rollout(self, numbers: dict[str, Tensor]) -> None:
        """Log what all ranks' episodes were like."""
        rewards, lengths = numbers["reward"], numbers["length"]
        if not len(rewards):
            return
        self.log("reward", rewards.nanmean(), prog_bar=True, batch_size=1)
        shown = {
            "reward_std": rewards[~rewards.isnan()].std(),
            "frac_reward_zero_std": equal_groups(rewards, self.num_generations).double().mean(),
            "completions/mean_length": lengths.mean(),
            "completions/max_length": lengths.max(),
            "completions/clipped_ratio": 1 - numbers["finished"].mean(),
            "segmenter_failures": numbers["failed"].sum(),
        }
        parts = {f"{name}/mean": part.nanmean() for name, part in numbers.items() if name.startswith("rewards/")}
        self.log_dict(shown | parts, batch_size=1)


_NONE = torch.zeros(0, dtype=torch.float64)


@dataclass
class Experience:
    """What one rollout batch has to teach.

    Args:
        episodes: B of them.
        advantages: ``float64 (B,)``.
        counted: ``bool (B,)``, whose tokens count.
        normalizers: counts of the batch over all ranks.
        old: log-probabilities under the policy that answered, ``float32 (b, L)`` per micro-batch; None if it learns
            from them once only, and so is that policy itself.
        reference: the same under the reference policy; None if the loss does not refer to it.
    """

    episodes: Sequence[Episode]
    advantages: Tensor
    counted: Tensor
    normalizers: Normalizers
    old: list[Tensor] | None
    reference: list[Tensor] | None


def _joined(ranks: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([rank[name] for rank in ranks]) for name in ranks[0]}
