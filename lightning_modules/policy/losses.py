"""The GRPO loss and its kin: a record in, a record out."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo"]
KLEstimator = Literal["k1", "abs", "k2", "k3"]


@dataclass
class LossInputs:
    """What a loss needs to know of B completions, padded to L tokens.

    Args:
        logprobs: ``float32 (B, L)`` under the policy, with gradient.
        advantages: ``(B,)`` of each completion, or ``(B, L)`` of each token.
        mask: ``bool (B, L)``, True where a token counts. What the other tensors hold elsewhere never matters.
        old_logprobs: ``float32 (B, L)`` under the policy that sampled; None if that is the policy itself (ratio 1).
        ref_logprobs: ``float32 (B, L)`` under the reference policy; needed if ``beta`` is not 0.
        entropy: ``float32 (B, L)`` of the policy's distribution; needed, with gradient, if ``entropy_coef`` is not 0.
    """

    logprobs: Tensor
    advantages: Tensor
    mask: Tensor
    old_logprobs: Tensor | None = None
    ref_logprobs: Tensor | None = None
    entropy: Tensor | None = None


@dataclass
class LossOutputs:
    """A micro-batch's share of the loss, ``()``, and of each metric under TRL's name, ``()`` without gradient.

    Shares are sums over the micro-batch divided by the counts of the whole batch: they add up over micro-batches, and
    their mean over ranks is the value of the whole batch.
    """

    loss: Tensor
    metrics: dict[str, Tensor]


@dataclass(frozen=True)
class Normalizers:
    """Counts of the whole batch of one optimiser step, over all its micro-batches and ranks.

    Because no micro-batch is divided by its own count, the losses of k micro-batches add up to the loss of one batch,
    and, with the mean that DDP takes over ranks, many processes equal one.

    Args:
        num_tokens: tokens that count.
        num_sequences: completions, also those none of whose tokens counts (as TRL).
        num_ranks: processes over which gradients will be averaged.
    """

    num_tokens: float
    num_sequences: float
    num_ranks: int = 1

    @classmethod
    def of(cls, mask: Tensor) -> "Normalizers":
        """Return the counts of a batch that is all there is; ``mask`` is ``bool (B, L)``."""
        return cls(num_tokens=float(mask.sum()), num_sequences=float(mask.shape[0]))


def kl_penalty(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    estimator: KLEstimator = "k3",
    clamp: tuple[float, float] | None = None,
) -> Tensor:
    """Return a per-token estimate of KL(policy ‖ reference), after Schulman, http://joschu.net/blog/kl-approx.html.

    With ``d = ref_logprobs - logprobs``: k1 is ``-d``; abs is ``|d|``; k2 is ``d²/2``; k3, unbiased and never negative,
    is ``exp(d) - d - 1``.

    Args:
        logprobs: ``(B, L)`` under the policy.
        ref_logprobs: ``(B, L)`` under the reference policy.
        estimator: which of the four.
        clamp: lowest and highest value; Veason-R1 clamps k3 to (-10, 10).

    Returns:
        ``(B, L)``.
    """
    difference = ref_logprobs - logprobs
    if estimator == "k1":
        penalty = -difference
    elif estimator == "abs":
        penalty = difference.abs()
    elif estimator == "k2":
        penalty = 0.5 * difference.square()
    elif estimator == "k3":
        penalty = difference.exp() - difference - 1
    else:
        raise ValueError(f"Expected `estimator` to be one of {get_args(KLEstimator)}, but got {estimator!r}")
    return penalty if clamp is None else penalty.clamp(*clamp)


def aggregate(
    values: Tensor,
    mask: Tensor,
    normalizers: Normalizers,
    loss_type: LossType = "dapo",
    max_completion_length: int | None = None,
) -> Tensor:
    """Return the masked sum of per-token values, divided as the loss type prescribes.

    ========================  ===================================================================================
    grpo, sapo                mean over sequences of the mean over a sequence's tokens
    bnpo, dapo, cispo         mean over all tokens (TRL's bnpo takes it per micro-batch; here both are of the batch)
    dr_grpo                   sum over tokens / (sequences * ``max_completion_length``)
    luspo                     mean over sequences of the sum over a sequence's tokens
    ========================  ===================================================================================

    Args:
        values: ``(B, L)``, or ``(B, 1)`` where a sequence has one value for all its tokens.
        mask: ``bool (B, L)``.
        normalizers: counts of the whole batch.
        loss_type: see above.
        max_completion_length: for dr_grpo.

    Returns:
        ``()``, times ``num_ranks``, so that the mean over ranks is the value of the whole batch.
    """
    totals = (values * mask).sum(-1)
    count = normalizers.num_sequences
    if loss_type in ("grpo", "sapo"):
        totals = totals / mask.sum(-1).clamp(min=1)
    elif loss_type == "dr_grpo":
        count = count * _required_length(max_completion_length)
    elif loss_type != "luspo":
        count = normalizers.num_tokens
    return totals.sum() * (normalizers.num_ranks / max(count, 1.0))


@dataclass
class PolicyLoss:
    """Clipped surrogate, KL penalty and entropy bonus; names and formulas are TRL's ``GRPOConfig``'s.

    Per token, with ratio ``r = exp(logprob - old_logprob)`` and advantage ``A``::

        grpo, bnpo, dr_grpo, dapo, luspo   -min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A)
        cispo                              -min(r, epsilon_high) A logprob, no gradient through the first factor
        sapo                               -sigmoid(t (r - 1)) (4 / t) A, with t = t_pos if A > 0 else t_neg

    plus ``beta`` KL minus ``entropy_coef`` entropy, all three divided as ``aggregate`` says. (TRL divides the entropy
    by the tokens of the micro-batch whatever the loss type.) Veason-R1 is ``PolicyLoss("grpo", beta=5e-3,
    kl_clamp=(-10, 10), entropy_coef=1e-3)``.

    Args:
        loss_type: grpo (arXiv 2402.03300), bnpo, dr_grpo (2503.20783), dapo (2503.14476), luspo
            (2602.05261), cispo (2506.13585), sapo (2511.20347).
        epsilon: how far below 1 the ratio may fall before it is clipped.
        epsilon_high: how far above 1; as ``epsilon`` if None. For cispo the highest ratio itself (ScaleRL: 5).
        delta: highest ratio where A < 0, two-sided clipping (INTELLECT-2, arXiv 2505.07291).
        beta: weight of the KL penalty; 0 needs no reference.
        importance_sampling_level: one ratio for each token, or one for a sequence: the geometric mean of its tokens'
            (GSPO, arXiv 2507.18071).
        use_bias_correction_kl: multiply the KL by the ratio (DeepSeek-V3.2). Off, as in the papers; TRL 1.16: on.
        kl_estimator: see ``kl_penalty``.
        kl_clamp: see ``kl_penalty``.
        entropy_coef: weight of the entropy bonus.
        max_completion_length: for dr_grpo.
        sapo_temperature_pos: for sapo.
        sapo_temperature_neg: for sapo.

    Raises:
        ValueError: on settings that contradict each other.
    """

    loss_type: LossType = "dapo"
    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None
    beta: float = 0.0
    importance_sampling_level: Literal["token", "sequence"] = "token"
    use_bias_correction_kl: bool = False
    kl_estimator: KLEstimator = "k3"
    kl_clamp: tuple[float, float] | None = None
    entropy_coef: float = 0.0
    max_completion_length: int | None = None
    sapo_temperature_pos: float = 1.0
    sapo_temperature_neg: float = 1.05

    def __post_init__(self) -> None:
        if self.loss_type not in get_args(LossType):
            raise ValueError(f"Expected `loss_type` to be one of {get_args(LossType)}, but got {self.loss_type!r}")
        if self.importance_sampling_level not in ("token", "sequence"):
            raise ValueError(
                "Expected `importance_sampling_level` to be 'token' or 'sequence', "
                f"but got {self.importance_sampling_level!r}"
            )
        if self.loss_type == "dr_grpo":
            _required_length(self.max_completion_length)
        if self.delta is not None and self.delta <= 1 + self.ratio_high:
            raise ValueError(
                f"Expected `delta` to be above 1 + `epsilon_high` = {1 + self.ratio_high}, but got {self.delta}: "
                "the first clip would never be reached"
            )

    @property
    def ratio_high(self) -> float:
        """``epsilon_high``, or ``epsilon`` where that is not given."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    def __call__(self, inputs: LossInputs, normalizers: Normalizers) -> LossOutputs:
        """Return the loss of a micro-batch as its share of the whole batch.

        Args:
            inputs: the micro-batch.
            normalizers: counts of the whole batch.

        Returns:
            Loss and metrics: kl, entropy, clip_ratio/{low,high,region}_mean (cispo: cispo_clip_ratio), as far as they
            apply.

        Raises:
            ValueError: if the settings ask for a tensor that ``inputs`` lack.
        """
        inputs = _without_padding(inputs)
        advantages = inputs.advantages if inputs.advantages.ndim == 2 else inputs.advantages[:, None]
        advantages = advantages.to(inputs.logprobs.dtype)
        ratio = self._ratio(inputs)
        values = self._surrogate(ratio, advantages, inputs.logprobs)
        averages: dict[str, Tensor] = self._clipped(ratio.detach(), advantages)
        if self.beta:
            averages["kl"] = self._kl(inputs, ratio)
            values = values + self.beta * averages["kl"]
        if inputs.entropy is not None:
            averages["entropy"] = inputs.entropy
        if self.entropy_coef:
            values = values - self.entropy_coef * self._entropy(inputs)
        loss = aggregate(values, inputs.mask, normalizers, self.loss_type, self.max_completion_length)
        return LossOutputs(loss, {k: _share(v.detach(), inputs.mask, normalizers) for k, v in averages.items()})

    def _ratio(self, inputs: LossInputs) -> Tensor:
        old = inputs.logprobs.detach() if inputs.old_logprobs is None else inputs.old_logprobs
        log_ratio = inputs.logprobs - old
        if self.importance_sampling_level == "sequence":
            log_ratio = (log_ratio.sum(-1) / inputs.mask.sum(-1).clamp(min=1))[:, None]
        return log_ratio.exp()

    def _surrogate(self, ratio: Tensor, advantages: Tensor, logprobs: Tensor) -> Tensor:
        if self.loss_type == "cispo":
            return -ratio.clamp(max=self.ratio_high).detach() * advantages * logprobs
        if self.loss_type == "sapo":
            temperature = torch.where(advantages > 0, self.sapo_temperature_pos, self.sapo_temperature_neg)
            return -torch.sigmoid(temperature * (ratio - 1)) * 4 / temperature * advantages
        clipped = ratio.clamp(1 - self.epsilon, 1 + self.ratio_high)
        bounded = ratio if self.delta is None else ratio.clamp(max=self.delta)
        return -torch.min(bounded * advantages, clipped * advantages)

    def _clipped(self, ratio: Tensor, advantages: Tensor) -> dict[str, Tensor]:
        if self.loss_type == "sapo":
            return {}
        if self.loss_type == "cispo":
            return {"cispo_clip_ratio": ((ratio > self.ratio_high) & (advantages > 0)).float()}
        low = (ratio < 1 - self.epsilon) & (advantages < 0)
        high = (ratio > 1 + self.ratio_high) & (advantages > 0)
        shares = {"low_mean": low, "high_mean": high, "region_mean": low | high}
        return {f"clip_ratio/{name}": share.float() for name, share in shares.items()}

    def _kl(self, inputs: LossInputs, ratio: Tensor) -> Tensor:
        if inputs.ref_logprobs is None:
            raise ValueError(f"Expected `ref_logprobs` to be given because `beta` is {self.beta}, but got None")
        penalty = kl_penalty(inputs.logprobs, inputs.ref_logprobs, self.kl_estimator, self.kl_clamp)
        return penalty * ratio if self.use_bias_correction_kl else penalty

    def _entropy(self, inputs: LossInputs) -> Tensor:
        entropy = inputs.entropy
        if entropy is None or (inputs.logprobs.requires_grad and not entropy.requires_grad):
            raise ValueError(
                f"Expected `entropy` to be given with gradient because `entropy_coef` is {self.entropy_coef}, "
                f"but got {'None' if entropy is None else 'a tensor without gradient'}: the bonus would do nothing"
            )
        return entropy


def _required_length(max_completion_length: int | None) -> int:
    if not max_completion_length:
        raise ValueError(
            "Expected `max_completion_length` to be given because `loss_type` is 'dr_grpo', "
            f"but got {max_completion_length}"
        )
    return max_completion_length


def _without_padding(inputs: LossInputs) -> LossInputs:
    """Zero what lies outside the mask before any arithmetic: 0 times an infinity of the padding would be NaN."""

    def keep(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.masked_fill(~inputs.mask, 0.0)

    logprobs = inputs.logprobs.masked_fill(~inputs.mask, 0.0)
    return LossInputs(
        logprobs,
        inputs.advantages,
        inputs.mask,
        keep(inputs.old_logprobs),
        keep(inputs.ref_logprobs),
        keep(inputs.entropy),
    )


def _share(values: Tensor, mask: Tensor, normalizers: Normalizers) -> Tensor:
    """Return a share of the mean over tokens, or over sequences where ``values`` is ``(B, 1)``."""
    if values.shape[1] == 1 and mask.shape[1] != 1:
        return values.sum() * (normalizers.num_ranks / max(normalizers.num_sequences, 1.0))
    return aggregate(values, mask, normalizers)
