"""From the rewards of a group to how much better each member was than the group."""

from typing import Literal

import torch
from torch import Tensor

ScaleRewards = Literal["group", "batch", "none"]

#: Rewards that differ by no more than this are the same reward, computed twice.
EQUAL_REWARDS = 1e-6


def equal_groups(rewards: Tensor, num_generations: int) -> Tensor:
    """Return which groups carry no signal, because their scored rewards differ by at most ``EQUAL_REWARDS``.

    Its mean is what TRL logs as ``frac_reward_zero_std`` (unless ``scale_rewards`` is ``batch``: then TRL asks whether
    the rewards of the whole batch are equal).

    Args:
        rewards: ``float64 (B,)``, groups one after the other, NaN where an episode was not scored.
        num_generations: members of a group.

    Returns:
        ``bool (B / num_generations,)``; True also for a group with fewer than two scored members.
    """
    groups = _groups(rewards, num_generations)
    highest = groups.masked_fill(groups.isnan(), -torch.inf).amax(dim=1)
    lowest = groups.masked_fill(groups.isnan(), torch.inf).amin(dim=1)
    return highest - lowest <= EQUAL_REWARDS


def group_advantages(
    rewards: Tensor,
    num_generations: int,
    scale_rewards: ScaleRewards = "group",
    eps: float = 1e-4,
    released: bool = False,
) -> Tensor:
    """Return group-relative advantages (GRPO, arXiv 2402.03300, §4.1).

    ``A = (r - mean(group)) / (std + eps)`` with the unbiased ``std`` of the group or of the whole batch (arXiv
    2508.08221), or without the division (Dr. GRPO, arXiv 2503.20783): what TRL's ``GRPOTrainer`` computes, with one
    repair. Statistics are taken in float64, and a group whose rewards are equal has advantage exactly 0: in float32 the
    mean of eight identical rewards is often a rounding error away from them, and the division by ``eps`` makes that a
    push in a common direction.

    Args:
        rewards: ``float64 (B,)``, groups one after the other. NaN means not scored: left out of the statistics. An
            infinite one makes the advantages of its group NaN. For ``scale_rewards='batch'`` pass the rewards of all
            ranks.
        num_generations: members of a group, at least 2.
        scale_rewards: what the deviation from the group's mean is divided by.
        eps: added to the standard deviation.
        released: as Veason-R1's published code did: group scale in float32, no rule for equal rewards, and a group of
            one is compared with mean 0 and standard deviation 1.

    Returns:
        ``float64 (B,)``; 0 where an episode was not scored. Its tokens should not count either: mask them. (TRL counts
        them: they are pulled to the reference and dilute the loss.)

    Raises:
        ValueError: if the groups are of one, or do not divide the batch.
    """
    if released:
        return _released_advantages(rewards, num_generations, eps)
    if num_generations < 2:
        raise ValueError(
            f"Expected `num_generations` to be at least 2, but got {num_generations}: "
            "the advantage of a group of one is always 0"
        )
    groups = _groups(rewards, num_generations)
    scored = ~groups.isnan()
    deviations = torch.where(scored, groups - groups.nanmean(dim=1, keepdim=True), 0.0)
    if scale_rewards == "group":
        variance = deviations.square().sum(dim=1, keepdim=True) / (scored.sum(dim=1, keepdim=True) - 1).clamp(min=1)
        deviations = deviations / (variance.sqrt() + eps)
    elif scale_rewards == "batch":
        deviations = deviations / (_std(groups[scored]) + eps)
    elif scale_rewards != "none":
        raise ValueError(f"Expected `scale_rewards` to be 'group', 'batch' or 'none', but got {scale_rewards!r}")
    equal = equal_groups(rewards, num_generations)
    return deviations.masked_fill(equal[:, None], 0.0).flatten()


def _groups(rewards: Tensor, num_generations: int) -> Tensor:
    if rewards.ndim != 1 or rewards.numel() % num_generations:
        raise ValueError(
            f"Expected `rewards` to be (B,) with B a multiple of `num_generations`={num_generations}, "
            f"but got {tuple(rewards.shape)}"
        )
    return rewards.to(torch.float64).view(rewards.numel() // num_generations, num_generations)


def _std(values: Tensor) -> Tensor:
    return values.std() if values.numel() > 1 else values.new_zeros(())


def _released_advantages(rewards: Tensor, num_generations: int, eps: float) -> Tensor:
    groups = _groups(rewards, num_generations).to(torch.float32)
    if num_generations == 1:
        return (groups / (1.0 + eps)).flatten().to(torch.float64)
    return ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + eps)).flatten().to(torch.float64)
