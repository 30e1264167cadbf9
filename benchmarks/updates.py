"""Who takes part in ``benchmarks/grpo_update.py``: each gives a loss and leaves gradients in a model of its own."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.setting import Setting
from benchmarks.trl_peer import build_trainer, dictate, micro_batches, scored_batch
from lightning_modules.policy.advantages import group_advantages
from lightning_modules.policy.losses import LossInputs, Normalizers, PolicyLoss
from models.reasoners import QwenVL

#: Relative differences of the loss and of gradients that are equal, in float32; in bfloat16 of all gradients together.
TOLERANCE = {"cpu": 1e-4, "cuda": 5e-2}
#: What the names of contestants end with that take one answer at a time.
ONE_AT_A_TIME = "_micro_batch_1"


class Ours:
    """Log-probabilities and gradients of a group, as ``GRPOModule`` takes them.

    Args:
        setting: the group.
        folder: the model.
        prefix_sharing: False repeats the prompt.
        micro_batch_size: answers per backward pass; None takes all.
    """

    def __init__(
        self, setting: Setting, folder: Path, prefix_sharing: bool = True, micro_batch_size: int | None = None
    ) -> None:
        self.setting = setting
        self.reasoner: QwenVL = setting.reasoner(folder, prefix_sharing)
        self.model = self.reasoner.model
        self.episodes = setting.episodes()
        self.answers = [len(episode.last.completion.token_ids) for episode in self.episodes]
        self.advantages = group_advantages(setting.rewards(), setting.group_size).to(setting.device)
        self.size = micro_batch_size or setting.group_size
        self.loss = PolicyLoss()

    def __call__(self) -> Tensor:
        """Return the loss, with gradients in ``model``."""
        self.model.zero_grad(set_to_none=True)
        normalizers = Normalizers(float(sum(self.answers)), float(len(self.answers)))
        total = torch.zeros((), device=self.advantages.device)
        for start in range(0, len(self.episodes), self.size):
            chunk = slice(start, start + self.size)
            output = self.reasoner.logprobs(self.episodes[chunk])
            inputs = LossInputs(output.logprobs, self.advantages[chunk], output.mask, entropy=output.entropy.detach())
            loss = self.loss(inputs, normalizers).loss
            loss.backward()
            total += loss.detach()
        return total


class TRL:
    """The same by TRL: its trainer's loss, differentiated by its accelerator.

    Args:
        setting: the group.
        folder: the model.
        accumulation: micro-batches.
    """

    def __init__(self, setting: Setting, folder: Path, accumulation: int = 1) -> None:
        self.setting = setting
        model, processor = setting.stock(folder)
        episodes = setting.episodes()
        written = [episode.last.completion.token_ids for episode in episodes]
        self.trainer = build_trainer(
            model,
            processor,
            [episodes[0].sample],
            [episodes[0].chat],
            [self.reward],
            folder / "trl",
            setting.group_size,
            accumulation,
            setting.device,
            gradient_checkpointing=setting.full_size,
            max_completion_length=max(map(len, written)),
        )
        self.model: Any = self.trainer.model
        dictate(self.trainer, written)
        self.parts = micro_batches(self.trainer, scored_batch(self.trainer))
        if setting.full_size:  # `train` would
            self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def __call__(self) -> Tensor:
        """Return the loss, with gradients in ``model``."""
        self.model.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.setting.device)
        for part in self.parts:
            loss = self.trainer.compute_loss(self.model, part)
            self.trainer.accelerator.backward(loss)
            total += loss.detach()
        return total

    def reward(self, completions: list[Any], **_: Any) -> list[float]:
        """Return the rewards of the group, whatever was written."""
        return self.setting.rewards().tolist()


def contestants(setting: Setting, peers: list[str]) -> dict[str, Any]:
    """Return how each is built from the folder of a model, by name; ours is the first."""
    size = setting.group_size
    built: dict[str, Any] = {"ours": partial(Ours, setting)}
    if "plain" in peers:
        built["plain"] = partial(Ours, setting, prefix_sharing=False)
        built[f"plain{ONE_AT_A_TIME}"] = partial(Ours, setting, prefix_sharing=False, micro_batch_size=1)
    if "trl" in peers:
        built["trl"] = partial(TRL, setting)
        built[f"trl{ONE_AT_A_TIME}"] = partial(TRL, setting, accumulation=size)
    return built


def expect_equal(name: str, ours: tuple[Tensor, Any], other: tuple[Tensor, Any], device: str) -> float:
    """Compare losses and gradients of two contestants.

    Args:
        name: of the other.
        ours: our loss, and the model with our gradients.
        other: theirs.
        device: on a CPU the largest relative difference counts, of the loss and of the gradient of any parameter, whose
            norm counts as at least a thousandth of that of all; on a GPU that of all gradients together.

    Returns:
        The difference.

    Raises:
        ValueError: if it is above the tolerance.
    """
    expected = {key: parameter.grad for key, parameter in other[1].named_parameters()}
    gaps, norms = [], []
    for key, parameter in ours[1].named_parameters():
        gaps.append((parameter.grad - expected[key]).float().norm())
        norms.append(expected[key].float().norm())
    gap, norm = torch.stack(gaps), torch.stack(norms)
    whole = norm.norm()
    difference = float((gap / norm.clamp(min=1e-3 * whole)).max() if device == "cpu" else gap.norm() / whole)
    if device == "cpu":
        difference = max(difference, float((ours[0] - other[0]).abs() / other[0].abs()))
    if not difference <= TOLERANCE[device]:
        raise ValueError(
            f"Expected loss and gradients of {name} to differ from ours by at most {TOLERANCE[device]} of themselves, "
            f"but got {difference}"
        )
    return difference
