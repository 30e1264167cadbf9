"""Group relative policy optimisation (arXiv 2402.03300) of a reasoner, in the order in which it happens."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from datamodules.structures import VideoSample
from dialogues.episode import Episode
from lightning_modules.policy.advantages import ScaleRewards, equal_groups, group_advantages
from lightning_modules.policy.losses import LossInputs, Normalizers, PolicyLoss
from lightning_modules.training import TrainingModule
from models.reasoners.base import PolicyOutput, Sampling
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
        with self._phase("rollout"):
            groups = self._rollout(batch, self.num_generations, self._sampling(), "shown", self.rewards.needs_masks)
        with self._phase("reward"):
            scores = [self.rewards(group) for group in groups]
        episodes = [episode for group in groups for episode in group]
        rewards = torch.cat([torch.zeros(0, dtype=torch.float64), *(score.total for score in scores)])
        advantages = self._advantages(rewards)
        counted = ~rewards.isnan()
        if self.mask_truncated_completions:
            counted &= torch.tensor([episode.last.completion.finished for episode in episodes])
        self._log_rollout(episodes, scores, rewards)
        with self._phase("logprobs"):
            old = self._fixed(episodes) if self.num_iterations > 1 else None
            with self.reasoner.reference() if self.loss.beta else nullcontext():
                reference = self._fixed(episodes) if self.loss.beta else None
        with self._phase("update"):
            for _ in range(self.num_iterations):
                self._step(episodes, self._losses(episodes, advantages, counted, old, reference))
        return {"groups": groups, "scores": scores}

    def _sampling(self) -> Sampling:
        step = self.trainer.fit_loop.total_batch_idx
        return Sampling(self.max_completion_length, self.temperature, self.top_p, self.top_k, self.seed, step)

    def _advantages(self, rewards: Tensor) -> Tensor:
        ranks = self._gather(rewards) if self.scale_rewards == "batch" else [rewards]
        own = self.global_rank if len(ranks) > 1 else 0
        advantages = group_advantages(torch.cat(ranks), self.num_generations, self.scale_rewards, self.advantage_eps)
        own_part: Tensor = advantages.split([len(rank) for rank in ranks])[own]
        return own_part

    @torch.no_grad()
    def _fixed(self, episodes: Sequence[Episode]) -> list[Tensor]:
        """Return log-probabilities per micro-batch that will not change while the policy does."""
        return [self._policy(episodes[chunk]).logprobs for chunk in self._chunks(episodes)]

    def _policy(self, episodes: Sequence[Episode]) -> PolicyOutput:
        return self.reasoner.logprobs(episodes, self.temperature)

    def _losses(
        self,
        episodes: Sequence[Episode],
        advantages: Tensor,
        counted: Tensor,
        old: list[Tensor] | None,
        reference: list[Tensor] | None,
    ) -> Iterator[Tensor]:
        """Yield the loss of each micro-batch as its share of the whole batch, over all ranks."""
        lengths = torch.tensor([len(episode.last.completion.token_ids) for episode in episodes])
        normalizers = Normalizers(
            num_tokens=self._global_sum(float((lengths * counted).sum())),
            num_sequences=self._global_sum(len(episodes)),
            num_ranks=self.trainer.world_size,
        )
        metrics: dict[str, Tensor] = {}
        for number, chunk in enumerate(self._chunks(episodes)):
            output = self._policy(episodes[chunk])
            inputs = LossInputs(
                logprobs=output.logprobs,
                advantages=advantages[chunk].to(self.device),
                mask=output.mask & counted[chunk, None].to(self.device),
                old_logprobs=old[number] if old else None,
                ref_logprobs=reference[number] if reference else None,
                entropy=output.entropy if self.loss.entropy_coef else output.entropy.detach(),
            )
            share = self.loss(inputs, normalizers)
            metrics = {name: value + metrics.get(name, 0.0) for name, value in share.metrics.items()}
            yield share.loss
        self.log_dict(metrics, sync_dist=True, batch_size=1)

    def _log_rollout(self, episodes: Sequence[Episode], scores: Sequence[Scores], rewards: Tensor) -> None:
        """Log rewards and completions under TRL's names."""
        if not episodes:
            return
        completions = [episode.last.completion for episode in episodes]
        lengths = torch.tensor([len(completion.token_ids) for completion in completions], dtype=torch.float32)
        numbers: dict[str, Tensor | float] = {
            "reward": rewards.nanmean(),
            "reward_std": rewards[~rewards.isnan()].std(),
            "frac_reward_zero_std": equal_groups(rewards, self.num_generations).double().mean(),
            "completions/mean_length": lengths.mean(),
            "completions/max_length": lengths.max(),
            "completions/clipped_ratio": 1 - sum(completion.finished for completion in completions) / len(completions),
            "segmenter_failures": float(sum(episode.last.failure is not None for episode in episodes)),
        }
        for name in scores[0].parts:
            numbers[f"rewards/{name}/mean"] = torch.cat([score.parts[name] for score in scores]).nanmean()
        self.log("reward", numbers.pop("reward"), prog_bar=True, sync_dist=True, batch_size=1)
        self.log_dict(numbers, sync_dist=True, batch_size=1)
