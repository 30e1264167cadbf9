"""``GRPOModule`` on completions that were written elsewhere: one rollout batch, all steps of it, nothing moves.

Three policies differ from each other: the reference (the folder on disk), the one that wrote the completions, and one
that has moved on since. The first step is taken at the second, on policy; the next at the third, off policy.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText

from datamodules.structures import VideoSample
from dialogues import VeasonR1
from dialogues.chat import Chat
from dialogues.episode import Completion, Episode
from lightning_modules import AdamWConfig, GRPOModule
from lightning_modules.policy.advantages import group_advantages
from lightning_modules.policy.losses import PolicyLoss
from models.frame_samplers import AllFrames
from models.reasoners import QwenVL
from rewards.base import Reward

Weights = dict[str, Tensor]
Score = Callable[[str], float | None]

#: What every case starts from; the names are TRL's too.
DEFAULTS: dict[str, Any] = {
    "max_completion_length": 5,
    "num_generations": 3,
    "num_iterations": 2,
    "use_bias_correction_kl": False,
}
#: Settings of the loss; the others are the module's.
LOSS_SETTINGS = {field.name for field in fields(PolicyLoss)}


class Replay(QwenVL):
    """Writes what it is told to; everything else is the product's."""

    written: list[list[Completion]]

    def generate(self, samples, chats, group_size, sampling):
        return self.written


class TextReward(Reward):
    """A reward of the text alone."""

    def __init__(self, function: Score) -> None:
        super().__init__()
        self.function = function

    def score(self, episode: Episode) -> float | None:
        return self.function(episode.last.completion.text)


@dataclass
class Problem:
    """What both sides train on.

    Args:
        reasoner: configured; its ``pretrained`` is the reference policy.
        samples: one group each.
        policies: trainable weights that wrote the completions, and those that have moved on.
        scores: rewards by name, of the text of a completion; None is not applicable.
        reward_weights: of each.
    """

    reasoner: Replay
    samples: list[VideoSample]
    policies: list[Weights]
    scores: dict[str, Score]
    reward_weights: list[float]

    @cached_property
    def base(self) -> Any:
        """The reference policy as a plain transformers model, without adapters."""
        return AutoModelForImageTextToText.from_pretrained(self.reasoner.pretrained, dtype=torch.float32)

    @property
    def dialogue(self) -> VeasonR1:
        return VeasonR1(size=56)

    @property
    def chats(self) -> list[Chat]:
        return [self.dialogue.ask(sample, range(sample.num_frames)) for sample in self.samples]


@dataclass
class Step:
    """A loss, the gradient of every trainable parameter by name, the advantages, and what was logged."""

    loss: float
    gradients: Weights
    advantages: Tensor
    metrics: dict[str, float]

    def gap(self, other: "Step") -> float:
        """Largest difference of the losses, of any advantage, and of any element of any gradient."""
        assert self.gradients.keys() == other.gradients.keys()
        gaps = [(self.gradients[name] - other.gradients[name]).abs().max() for name in self.gradients]
        gaps.append((self.advantages - other.advantages).abs().max())
        return max(abs(self.loss - other.loss), *map(float, gaps))

    @property
    def largest(self) -> float:
        """Largest element of any gradient."""
        return max(float(gradient.abs().max()) for gradient in self.gradients.values())


def trainable(model: Any) -> Weights:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def gradients(model: Any) -> Weights:
    """Return a copy of every gradient, by the name of its parameter."""
    return {name: parameter.grad.clone() for name, parameter in trainable(model).items()}


@torch.no_grad()
def load(model: Any, weights: Weights) -> None:
    """Copy trainable weights into a model."""
    for name, parameter in trainable(model).items():
        parameter.copy_(weights[name])


class Recorder(Callback):
    """Takes each step at the next policy, and keeps what came of it."""

    def __init__(self, policies: list[Weights]) -> None:
        self.policies = iter(policies)
        self.gradients: list[Weights] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        load(module.reasoner.model, next(self.policies))

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if self.gradients:
            self._keep_metrics(trainer)
        self.gradients.append(gradients(module.reasoner.model))
        if len(self.gradients) < module.num_iterations:
            load(module.reasoner.model, next(self.policies))  # the learning rate is 0: the next step starts here

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self._keep_metrics(trainer)
        rewards = torch.cat([scores.total for scores in outputs["scores"]])
        self.advantages = group_advantages(rewards, module.num_generations, module.scale_rewards)

    def _keep_metrics(self, trainer: Trainer) -> None:
        # They are logged after the optimiser's step.
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def train(
    problem: Problem, written: list[list[Completion]], folder: Path, micro_batch_size: int | None = 5, **settings: Any
) -> list[Step]:
    """Fit a ``GRPOModule`` for one rollout batch, without moving the weights.

    Args:
        problem: what it trains on.
        written: the completions, one group per sample.
        folder: where it may write.
        micro_batch_size: episodes per backward pass; 5 of 9 lets groups and micro-batches overlap.
        **settings: of ``PolicyLoss`` and ``GRPOModule``.

    Returns:
        One step per iteration.
    """
    settings = DEFAULTS | settings
    problem.reasoner.written = written
    module = GRPOModule(
        PolicyLoss(**{name: value for name, value in settings.items() if name in LOSS_SETTINGS}),
        reasoner=problem.reasoner,
        dialogue=problem.dialogue,
        frame_sampler=AllFrames(),
        rewards={name: TextReward(score) for name, score in problem.scores.items()},
        reward_weights=dict(zip(problem.scores, problem.reward_weights, strict=True)),
        optimizer=AdamWConfig(learning_rate=0.0, weight_decay=0.0),
        micro_batch_size=micro_batch_size,
        max_grad_norm=float("inf"),
        **{name: value for name, value in settings.items() if name not in LOSS_SETTINGS},
    )
    recorder = Recorder(problem.policies)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=module.num_iterations,
        callbacks=[recorder],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(problem.samples, batch_size=len(problem.samples), collate_fn=list))
    parts = zip(recorder.gradients, recorder.metrics, strict=True)
    return [Step(metrics["loss"], gradient, recorder.advantages, metrics) for gradient, metrics in parts]
