import math
from collections import defaultdict
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from trl import GRPOTrainer

from lightning_modules.policy.losses import (
    LossInputs,
    LossType,
    Normalizers,
    PolicyLoss,
    aggregate,
    kl_penalty,
)
from lightning_modules.policy.schedules import warmup_factor

LOSS_TYPES = get_args(LossType)
LENGTH = 7
SETTINGS = {
    "plain": {},
    "kl": {"beta": 0.1},
    "corrected_kl": {"beta": 0.1, "use_bias_correction_kl": True},
    "sequence": {"importance_sampling_level": "sequence"},
    "sequence_kl": {"importance_sampling_level": "sequence", "beta": 0.1, "use_bias_correction_kl": True},
    "two_sided": {"epsilon_high": 0.28, "delta": 1.5},
}


def batch(rows=6, dtype=torch.float64):
    """Random completions of unequal length, whose ratios are clipped on both sides."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    logprobs = -draw(rows, LENGTH).abs()
    lengths = torch.tensor([7, 3, 1, 5, 7, 2])[:rows]
    return LossInputs(
        logprobs=logprobs.requires_grad_(),
        advantages=draw(rows),
        mask=torch.arange(LENGTH)[None] < lengths[:, None],
        old_logprobs=logprobs.detach() + 0.4 * draw(rows, LENGTH),
        ref_logprobs=logprobs.detach() + 0.4 * draw(rows, LENGTH),
        entropy=draw(rows, LENGTH).abs().requires_grad_(),
    )


def rows_of(inputs, rows):
    return LossInputs(*(tensor[rows] for tensor in vars(inputs).values()))


def loss_of(loss_type, **settings):
    return PolicyLoss(loss_type, max_completion_length=LENGTH if loss_type == "dr_grpo" else None, **settings)


class OneProcess:
    num_processes = 1
    sync_gradients = True

    def gather(self, value):
        return value

    def reduce(self, value, reduction):
        return value


def trl_loss(inputs, loss):
    """What TRL's trainer computes from the same per-token quantities, and its metrics."""
    state = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (inputs.logprobs, inputs.entropy, None),
        _metrics={"train": defaultdict(list)},
        _entropy_bonus_enabled=loss.entropy_coef != 0,
        accelerator=OneProcess(),
        args=SimpleNamespace(
            delta=loss.delta,
            use_bias_correction_kl=loss.use_bias_correction_kl,
            sapo_temperature_pos=loss.sapo_temperature_pos,
            sapo_temperature_neg=loss.sapo_temperature_neg,
            steps_per_generation=1,
        ),
        aux_loss_enabled=False,
        beta=loss.beta,
        current_gradient_accumulation_steps=1,
        entropy_coef=loss.entropy_coef,
        epsilon_high=loss.ratio_high,
        epsilon_low=loss.epsilon,
        importance_sampling_level=loss.importance_sampling_level,
        loss_type=loss.loss_type,
        max_completion_length=loss.max_completion_length,
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_adaptive_entropy=False,
        use_vllm=False,
    )
    mask = inputs.mask.long()
    fields = {
        "prompt_ids": mask[:, :0],
        "prompt_mask": mask[:, :0],
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": inputs.advantages,
        "old_per_token_logps": inputs.old_logprobs,
        "ref_per_token_logps": inputs.ref_logprobs,
        "num_items_in_batch": mask.sum(),
    }
    value = GRPOTrainer._compute_loss(state, None, fields)
    return value, {name: values[0] for name, values in state._metrics["train"].items()}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_equals_trl(loss_type, settings):
    loss, inputs = loss_of(loss_type, **settings), batch()
    got = loss(inputs, Normalizers.of(inputs.mask))
    expected, metrics = trl_loss(inputs, loss)
    torch.testing.assert_close(got.loss, expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(*(torch.autograd.grad(x, inputs.logprobs)[0] for x in (got.loss, expected)))
    assert got.metrics.keys() == metrics.keys() - {"clip_ratio/low_min", "clip_ratio/high_max"}
    for name, value in got.metrics.items():
        assert value.item() == pytest.approx(metrics[name], abs=1e-7), name
        assert not value.requires_grad


@pytest.mark.parametrize("loss_type", ["bnpo", "dapo", "cispo"])
def test_entropy_bonus_equals_trl(loss_type):
    loss, inputs = loss_of(loss_type, entropy_coef=0.3), batch()
    got = loss(inputs, Normalizers.of(inputs.mask)).loss
    expected, _ = trl_loss(inputs, loss)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(*(torch.autograd.grad(x, inputs.entropy)[0] for x in (got, expected)))


@pytest.mark.parametrize("settings", [*SETTINGS.values(), {"entropy_coef": 0.3}], ids=[*SETTINGS, "entropy"])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_micro_batches_and_ranks_add_up(loss_type, settings):
    loss, inputs = loss_of(loss_type, **settings), batch()
    whole = Normalizers.of(inputs.mask)
    expected = loss(inputs, whole)
    parts = [loss(rows_of(inputs, rows), whole) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    torch.testing.assert_close(sum(part.loss for part in parts), expected.loss)
    for name, value in expected.metrics.items():
        torch.testing.assert_close(sum(part.metrics[name] for part in parts), value)
    # Two ranks of unequal size, whose losses and gradients are averaged.
    two = Normalizers(whole.num_tokens, whole.num_sequences, num_ranks=2)
    ranks = [loss(rows_of(inputs, rows), two) for rows in (slice(0, 2), slice(2, 6))]
    average = sum(rank.loss for rank in ranks) / 2
    torch.testing.assert_close(average, expected.loss)
    torch.testing.assert_close(*(torch.autograd.grad(x, inputs.logprobs)[0] for x in (average, expected.loss)))
    for name, value in expected.metrics.items():
        torch.testing.assert_close(sum(rank.metrics[name] for rank in ranks) / 2, value)


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        # rows [1, 2] and [6]: token means 1.5 and 6
        ("grpo", (1.5 + 6) / 2),
        ("sapo", (1.5 + 6) / 2),
        ("bnpo", (1 + 2 + 6) / 3),
        ("dapo", (1 + 2 + 6) / 3),
        ("cispo", (1 + 2 + 6) / 3),
        ("dr_grpo", (1 + 2 + 6) / (2 * 10)),
        ("luspo", (3 + 6) / 2),
    ],
)
def test_aggregate(loss_type, expected):
    values, mask = torch.tensor([[1.0, 2.0], [6.0, 99.0]]), torch.tensor([[True, True], [True, False]])
    assert aggregate(values, mask, Normalizers(3, 2), loss_type, 10).item() == pytest.approx(expected)


def one_token(logprob, old, advantage, ref=None):
    tensors = [torch.tensor([[value]], dtype=torch.float64) for value in (logprob, old)]
    reference = None if ref is None else torch.tensor([[ref]], dtype=torch.float64)
    return LossInputs(tensors[0], torch.tensor([advantage]), torch.ones(1, 1, dtype=torch.bool), tensors[1], reference)


LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("settings", "inputs", "expected"),
    [
        # ratio 2: clipped to 1.2 where that makes the loss larger
        pytest.param({}, one_token(LOG2, 0.0, 3.0), -3.6, id="clipped_high"),
        pytest.param({}, one_token(LOG2, 0.0, -3.0), 6.0, id="not_clipped_where_bad"),
        pytest.param({"delta": 1.5}, one_token(LOG2, 0.0, -3.0), 4.5, id="two_sided"),
        pytest.param({}, one_token(-LOG2, 0.0, -3.0), 2.4, id="clipped_low"),
        pytest.param({"epsilon_high": 0.5}, one_token(LOG2, 0.0, 3.0), -4.5, id="clipped_higher"),
        # k3 with d = ref - logp = log 2: 2 - log 2 - 1
        pytest.param({"beta": 0.5}, one_token(0.0, 0.0, 1.0, LOG2), -1 + 0.5 * (1 - LOG2), id="kl"),
        pytest.param(
            {"beta": 0.5, "kl_clamp": (-0.1, 0.1)}, one_token(0.0, 0.0, 1.0, LOG2), -1 + 0.05, id="clamped_kl"
        ),
        # min(2, 1.2) * 3 * logprob
        pytest.param({"loss_type": "cispo", "epsilon_high": 1.2}, one_token(LOG2, 0.0, 3.0), -3.6 * LOG2, id="cispo"),
        # ratio 1: sigmoid(0) * 4 / t * A = 2 A / t
        pytest.param({"loss_type": "sapo"}, one_token(0.0, 0.0, 3.0), -6.0, id="sapo"),
        pytest.param({"loss_type": "sapo"}, one_token(0.0, 0.0, -3.0), 6.0 / 1.05, id="sapo_negative"),
    ],
)
def test_closed_form(settings, inputs, expected):
    assert PolicyLoss(**settings)(inputs, Normalizers(1, 1)).loss.item() == pytest.approx(expected)


def test_veason():
    # Two sequences of two and one tokens, on policy (ratio 1), advantages 1 and -1; d = ref - logp is log 2 everywhere.
    # Means of sequences: policy (-1 + 1) / 2 = 0; KL 1 - log 2; entropy (mean(1, 3) + 5) / 2 = 3.5
    logprobs = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    entropy = torch.tensor([[1.0, 3.0], [5.0, 9.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    inputs = LossInputs(logprobs, torch.tensor([1.0, -1.0]), mask, None, torch.full((2, 2), LOG2), entropy)
    loss = PolicyLoss("grpo", beta=5e-3, kl_clamp=(-10, 10), entropy_coef=1e-3)
    assert loss(inputs, Normalizers.of(mask)).loss.item() == pytest.approx(5e-3 * (1 - LOG2) - 1e-3 * 3.5)


@pytest.mark.parametrize(
    ("estimator", "expected"), [("k1", -LOG2), ("abs", LOG2), ("k2", LOG2**2 / 2), ("k3", 1 - LOG2)]
)
def test_kl_penalty(estimator, expected):
    assert kl_penalty(torch.zeros(1), torch.full((1,), LOG2), estimator).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_padding_never_matters(loss_type):
    loss, inputs = loss_of(loss_type, beta=0.1, entropy_coef=0.1), batch()
    expected = torch.autograd.grad(loss(inputs, Normalizers.of(inputs.mask)).loss, inputs.logprobs)[0]
    garbage = torch.tensor([math.nan, math.inf, -math.inf]).double()
    for name in ("logprobs", "old_logprobs", "ref_logprobs", "entropy"):
        values = getattr(inputs, name).detach().clone()
        values[~inputs.mask] = garbage.repeat(100)[: int((~inputs.mask).sum())]
        setattr(inputs, name, values.requires_grad_(name in ("logprobs", "entropy")))
    loss(inputs, Normalizers.of(inputs.mask)).loss.backward()
    assert torch.equal(inputs.logprobs.grad, expected)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_nothing_counts(loss_type):
    inputs = batch()
    inputs.mask = torch.zeros_like(inputs.mask)
    output = loss_of(loss_type, beta=0.1)(inputs, Normalizers.of(inputs.mask))
    output.loss.backward()
    assert output.loss.item() == 0
    assert not inputs.logprobs.grad.any()


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_on_policy_gradient(loss_type):
    """Where the policy itself sampled, the ratio is 1, nothing is clipped, and the gradient is -A per token."""
    inputs = batch()
    inputs.old_logprobs = None
    output = loss_of(loss_type)(inputs, Normalizers.of(inputs.mask))
    output.loss.backward()
    weight = {
        "grpo": 1 / (6 * inputs.mask.sum(1, keepdim=True)),
        "dapo": 1 / inputs.mask.sum(),
        "dr_grpo": 1 / (6 * LENGTH),
    }[loss_type]
    torch.testing.assert_close(inputs.logprobs.grad, -inputs.advantages[:, None] * inputs.mask * weight)
    assert output.metrics["clip_ratio/region_mean"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "ppo"}, "`loss_type` to be one of .*, but got 'ppo'"),
        ({"importance_sampling_level": "group"}, "'token' or 'sequence', but got 'group'"),
        ({"loss_type": "dr_grpo"}, "`max_completion_length` to be given"),
        ({"delta": 1.1}, "`delta` to be above 1 .* 1.2, but got 1.1"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        PolicyLoss(**settings)


def test_missing_tensors():
    inputs = batch()
    inputs.ref_logprobs, inputs.entropy = None, inputs.entropy.detach()
    with pytest.raises(ValueError, match=r"`ref_logprobs` to be given because `beta` is 0\.1"):
        PolicyLoss(beta=0.1)(inputs, Normalizers.of(inputs.mask))
    with pytest.raises(ValueError, match=r"`entropy` to be given with gradient .* a tensor without gradient"):
        PolicyLoss(entropy_coef=0.1)(inputs, Normalizers.of(inputs.mask))
    with pytest.raises(ValueError, match="`estimator` to be one of"):
        kl_penalty(inputs.logprobs, inputs.logprobs, "k4")


@pytest.mark.parametrize(
    ("warmup", "released", "expected"),
    [
        (0, False, [1, 1, 1]),
        (0, True, [0, 1, 1]),
        (2, False, [0.5, 1, 1]),
        (2, True, [0, 0.5, 1]),
    ],
)
def test_warmup_factor(warmup, released, expected):
    assert [warmup_factor(update, warmup, released) for update in range(3)] == expected
