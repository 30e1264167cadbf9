import copy
import json

import pytest

from tests.golden import FOLDER, GoldenFileError, run

KIND = "veason_core_algos"
DATA = json.loads((FOLDER / f"{KIND}.json").read_text())


def test_all_cases_pass():
    report = run(KIND, DATA)
    assert report.lines()[-1] == f"{KIND}: {report.total}/{report.total}"
    assert report.total > 0
    assert not any(report.failures.values())
    assert set(report.skipped) == {"gae", "reinforce_plus_plus", "remax", "grpo_certainty", "self_certainty"}


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ("eos_mask", "mask"),
        ("grpo_advantage", "advantages"),
        ("policy_loss", "pg_loss"),
        ("policy_loss", "pg_clipfrac"),
        ("policy_loss", "ppo_kl"),
        ("policy_loss", "grad_log_prob"),
        ("policy_loss", "kl_penalty"),
        ("policy_loss", "kl_loss_masked_mean"),
        ("micro_batch_loss", "loss"),
        ("micro_batch_loss", "entropy_loss"),
        ("micro_batch_loss", "grad_logits"),
        ("kl_low_var_clamp", "value"),
        ("agg_loss", "seq-mean-token-mean"),
        ("masked", "whiten"),
        ("lr_used_per_update_constant_schedule", "by_warmup_steps"),
        ("mrope", "position_ids"),
        ("mrope", "response_position_ids_for_3_tokens"),
    ],
    ids=lambda value: str(value),
)
def test_a_wrong_expectation_is_reported(section, field):
    data = {"kind": KIND, section: copy.deepcopy(DATA[section])}
    case = data[section][0] if isinstance(data[section], list) else data[section]
    case[field] = _altered(case[field])
    report = run(KIND, data)
    assert report.passed == report.total - 1
    assert any(field in text or "warmup" in text for texts in report.failures.values() for text in texts)


def test_unknown_section():
    with pytest.raises(GoldenFileError, match="vtrace"):
        run(KIND, {"kind": KIND, "vtrace": {}})


def _altered(value):
    """The same structure with its first number wrong by one in a thousand, or by one if it is an integer."""
    if isinstance(value, dict):
        first = next(iter(value))
        return value | {first: _altered(value[first])}
    if isinstance(value, list):
        # a leading zero learning rate could not be altered by a factor
        return [*value[:-1], _altered(value[-1])]
    return value + 1 if isinstance(value, int) or value == 0 else value * 1.001
