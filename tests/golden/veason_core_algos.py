"""Golden vectors of Veason-R1's building blocks: masks, advantages, losses with gradients, schedule, positions."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from lightning_modules.policy.advantages import EQUAL_REWARDS, group_advantages
from lightning_modules.policy.losses import (
    KLEstimator,
    LossInputs,
    LossType,
    Normalizers,
    PolicyLoss,
    aggregate,
    kl_penalty,
)
from lightning_modules.policy.schedules import warmup_factor
from models.reasoners.packing import Attempt, EncodedPrompt, pack
from models.reasoners.qwen_vl import QwenVL
from tests.golden import Report, sections

KL_CLAMP = (-10.0, 10.0)
KL_ESTIMATORS: dict[str, KLEstimator] = {"kl": "k1", "abs": "abs", "mse": "k2", "low_var_kl": "k3"}
AGGREGATIONS: dict[str, LossType] = {
    "token-mean": "dapo",
    "seq-mean-token-sum": "luspo",
    "seq-mean-token-mean": "grpo",
    "seq-mean-token-sum-norm": "dr_grpo",
}


def eos_mask(report: Report, case: dict[str, Any]) -> None:
    reasoner = QwenVL("none")
    reasoner.stop_tokens = torch.tensor(case["eos"]).reshape(-1)
    reasoner.processor = SimpleNamespace(tokenizer=SimpleNamespace(decode=lambda ids, skip_special_tokens: ""))
    rows = [reasoner._completion(row, torch.zeros(len(row))).token_ids for row in case["response_ids"]]
    width = len(case["response_ids"][0])
    report.compare("mask", [[1] * len(row) + [0] * (width - len(row)) for row in rows], case["mask"])


def grpo_advantage(report: Report, case: dict[str, Any]) -> None:
    scores = torch.tensor(case["scores"], dtype=torch.float32)  # the dtype of the reference decides `near_equal`
    advantages = torch.zeros(len(scores), dtype=torch.float64)
    for key in dict.fromkeys(case["index"]):
        rows = torch.tensor([row for row, other in enumerate(case["index"]) if other == key])
        spread = float(scores[rows].max() - scores[rows].min())
        # Two released oddities: a group of one is scored, and a rounding error apart is a difference.
        released = len(rows) == 1 or 0 < spread <= EQUAL_REWARDS
        advantages[rows] = group_advantages(scores[rows], len(rows), eps=case["epsilon"], released=released)
    mask = torch.arange(case["response_length"])[None] < torch.tensor(case["lengths"])[:, None]
    report.compare("advantages", advantages[:, None] * mask, case["advantages"], atol=1e-4)


def policy_loss(report: Report, case: dict[str, Any]) -> None:
    old, ref, advantages = (_floats(case[name]) for name in ("old_log_prob", "ref_log_prob", "advantages"))
    logprobs = _floats(case["log_prob"]).requires_grad_()
    mask = torch.tensor(case["mask"], dtype=torch.bool)
    whole = Normalizers.of(mask)
    loss = PolicyLoss("bnpo", epsilon=case["cliprange"])(LossInputs(logprobs, advantages, mask, old), whole)
    loss.loss.backward()
    report.compare("pg_loss", loss.loss, case["pg_loss"])
    report.compare("pg_clipfrac", loss.metrics["clip_ratio/region_mean"], case["pg_clipfrac"])
    report.compare("grad_log_prob", logprobs.grad, case["grad_log_prob"])
    report.compare("ppo_kl", aggregate(kl_penalty(old, logprobs, "k1"), mask, whole), case["ppo_kl"])
    penalties = {name: _kl(name, logprobs, ref) for name in case["kl_penalty"]}
    report.compare("kl_penalty", penalties, case["kl_penalty"])
    means = {name: aggregate(_kl(name, logprobs, ref), mask, whole).item() for name in case["kl_loss_masked_mean"]}
    report.compare("kl_loss_masked_mean", means, case["kl_loss_masked_mean"])


def micro_batch_loss(report: Report, case: dict[str, Any]) -> None:
    logits = _floats(case["logits"]).requires_grad_()
    responses = torch.tensor(case["responses"])
    reasoner = QwenVL("none")
    # A head of ones and zeros: the hidden states are the logits.
    reasoner.model = SimpleNamespace(lm_head=SimpleNamespace(weight=torch.eye(logits.shape[-1])))
    every = torch.arange(responses.numel())
    scores = reasoner._score(every, responses.flatten(), case["temperature"], logits)
    logprobs, entropy = (score.view_as(responses) for score in scores)
    old, ref, advantages = (_floats(case[name]) for name in ("old_log_prob", "ref_log_prob", "advantages"))
    mask = torch.tensor(case["mask"], dtype=torch.bool)
    inputs = LossInputs(logprobs, advantages, mask, old, ref, entropy)
    # The published loss is a token mean of the micro-batch; with its one sequence that is TRL's grpo.
    loss_type: LossType = "grpo" if len(mask) == 1 else "bnpo"
    plain = PolicyLoss(loss_type, epsilon=case["cliprange"])(inputs, Normalizers.of(mask))
    settings = {"beta": case["kl_loss_coef"], "entropy_coef": case["entropy_coeff"], "kl_clamp": KL_CLAMP}
    whole = PolicyLoss(loss_type, epsilon=case["cliprange"], **settings)(inputs, Normalizers.of(mask))
    whole.loss.backward()
    got = {
        "log_prob": logprobs,
        "entropy": entropy,
        "pg_loss": plain.loss,
        "entropy_loss": whole.metrics["entropy"],
        "kl_loss": aggregate(_kl("low_var_kl", logprobs, ref), mask, Normalizers.of(mask)),
        "loss": whole.loss,
        "grad_logits": logits.grad,
    }
    for name, value in got.items():
        report.compare(name, value, case[name])


def zero_variance_rounding_hazard(report: Report, case: dict[str, Any]) -> None:
    size = case["group_size"]
    for dtype in (torch.float32, torch.float64):
        groups = [torch.full((size,), reward, dtype=dtype) for reward, _ in case["reward_then_advantage"]]
        got = group_advantages(torch.cat(groups), size, eps=1e-6)
        report.compare("advantages", got, [0.0] * len(got), atol=0.0, rtol=0.0)


def kl_low_var_clamp(report: Report, case: dict[str, Any]) -> None:
    report.compare("value", _kl("low_var_kl", _floats(case["logprob"]), _floats(case["ref_logprob"])), case["value"])


def agg_loss(report: Report, case: dict[str, Any]) -> None:
    values, mask = _floats(case["loss_mat"]), torch.tensor(case["mask"], dtype=torch.bool)
    for name, loss_type in AGGREGATIONS.items():
        whole = Normalizers.of(mask)
        if loss_type == "dr_grpo":  # the reference divides by the columns, not by the rows
            whole = Normalizers(whole.num_tokens, num_sequences=1)
        report.compare(name, aggregate(values, mask, whole, loss_type, mask.shape[1]), case[name])


def masked(report: Report, case: dict[str, Any]) -> None:
    values, mask = _floats(case["values"]), torch.tensor(case["mask"], dtype=torch.bool)
    whole = Normalizers.of(mask)
    mean = aggregate(values, mask, whole)
    variance = aggregate((values - mean).square(), mask, whole) * whole.num_tokens / (whole.num_tokens - 1)
    report.compare("mean", mean, case["mean"])
    report.compare("var_unbiased", variance, case["var_unbiased"])
    report.compare("whiten", (values - mean) * (variance + 1e-8).rsqrt(), case["whiten"])


def lr_used_per_update_constant_schedule(report: Report, case: dict[str, Any]) -> None:
    for warmup, expected in case["by_warmup_steps"].items():
        factors = [warmup_factor(update, int(warmup), released=True) for update in range(len(expected))]
        report.compare(f"warmup {warmup}", [case["base_lr"] * factor for factor in factors], expected, atol=0.0)


def mrope(report: Report, case: dict[str, Any]) -> None:
    special = case["special"]
    config = Qwen2_5_VLConfig(
        text_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8},
        vision_config={"depth": 1, "hidden_size": 8, "num_heads": 1, "spatial_merge_size": case["merge_size"]},
        image_token_id=special["image_pad"],
        video_token_id=special["video_pad"],
        vision_start_token_id=special["vision_start"],
    )
    with torch.device("meta"):
        model = Qwen2_5_VLModel(config)
    ids, real = torch.tensor(case["input_ids"]), torch.tensor(case["attention_mask"], dtype=torch.bool)
    prompt = ids[real]
    where = model.get_rope_index(
        prompt[None],
        image_grid_thw=torch.tensor(case["image_grid_thw"]),
        mm_token_type_ids=(prompt[None] == special["image_pad"]).long(),
    )[0][:, 0]
    positions = torch.ones(3, len(ids), dtype=torch.long)  # the reference's filler; the padding is never attended to
    positions[:, real] = where
    report.compare("position_ids", positions, case["position_ids"])
    expected = case["response_position_ids_for_3_tokens"]
    row = pack([[Attempt(EncodedPrompt(prompt, where, [], []), [0] * len(expected[0]))]])
    report.compare("response_position_ids_for_3_tokens", row.positions[:, len(prompt) :], expected)


#: one case, or a list of cases
CASES: dict[str, Callable[[Report, dict[str, Any]], None]] = {
    function.__name__: function
    for function in (
        eos_mask,
        grpo_advantage,
        policy_loss,
        micro_batch_loss,
        zero_variance_rounding_hazard,
        kl_low_var_clamp,
        agg_loss,
        masked,
        lr_used_per_update_constant_schedule,
        mrope,
    )
}
#: estimators that Veason-R1's published code contains and does not use
NOT_OFFERED = ("gae", "reinforce_plus_plus", "remax", "grpo_certainty", "self_certainty")


def run(data: dict[str, Any]) -> Report:
    """Run every section of the file that has an estimator of ours."""
    report = Report("veason_core_algos")
    for section, content in sections(data, (*CASES, *NOT_OFFERED)).items():
        if section in NOT_OFFERED:
            report.skip(section, "an estimator that thinkseg does not offer")
            continue
        for number, case in enumerate(content if isinstance(content, list) else [content]):
            with report.case(f"{section}/{case.get('name', number)}"):
                CASES[section](report, case)
    return report


def _floats(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _kl(name: str, logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return one of the reference's estimates; only its low_var_kl is clamped."""
    clamp = KL_CLAMP if name == "low_var_kl" else None
    return kl_penalty(logprobs, ref_logprobs, KL_ESTIMATORS[name], clamp)
