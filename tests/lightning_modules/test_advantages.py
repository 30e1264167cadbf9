import math

import pytest
import torch
from trl.trainer.utils import nanstd

from lightning_modules.policy.advantages import equal_groups, group_advantages

NAN = math.nan


def rewards(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "scale", "expected"),
    [
        # mean 2, unbiased variance (1 + 1) / 1 = 2
        pytest.param((1, 3), "group", (-1 / math.sqrt(2), 1 / math.sqrt(2)), id="two"),
        # mean 1, variance (1 + 1 + 1 + 1) / 3 = 4/3
        pytest.param((0, 0, 2, 2), "group", (-(0.75**0.5),) * 2 + (0.75**0.5,) * 2, id="four"),
        pytest.param((0, 0, 2, 2), "none", (-1, -1, 1, 1), id="unscaled"),
        pytest.param((1, NAN, 3, NAN), "none", (-1, 0, 1, 0), id="not_scored"),
        pytest.param((1, NAN, 3, NAN), "group", (-1 / math.sqrt(2), 0, 1 / math.sqrt(2), 0), id="not_scored_scaled"),
        pytest.param((5, NAN, NAN, NAN), "group", (0, 0, 0, 0), id="one_scored"),
        pytest.param((NAN,) * 4, "batch", (0, 0, 0, 0), id="none_scored"),
        pytest.param((1, 1 + 9e-7, 1, 1), "group", (0, 0, 0, 0), id="equal_within_a_millionth"),
        pytest.param((0, 4e-6), "none", (-2e-6, 2e-6), id="not_quite_equal"),
    ],
)
def test_closed_form(values, scale, expected):
    got = group_advantages(rewards(*values), len(values), scale, eps=0.0)
    torch.testing.assert_close(got, rewards(*expected), rtol=1e-9, atol=1e-12)


def test_batch_scale():
    # group means 1 and 6; the deviations -1, 1, -1, 1 are divided by the deviation of 0, 2, 5, 7 from 3.5:
    # variance (12.25 + 2.25 + 2.25 + 12.25) / 3 = 29/3
    got = group_advantages(rewards(0, 2, 5, 7), 2, "batch", eps=0.0)
    torch.testing.assert_close(got, rewards(-1, 1, -1, 1) / math.sqrt(29 / 3))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("size", [2, 8])
def test_identities(scale, size):
    given = torch.rand(4 * size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    advantages = group_advantages(given, size, scale)
    torch.testing.assert_close(group_advantages(given + 7.25, size, scale), advantages, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(advantages.view(4, size).sum(1), torch.zeros(4, dtype=torch.float64))
    order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    permuted = given.view(4, size)[:, order].flatten()
    torch.testing.assert_close(group_advantages(permuted, size, scale), advantages.view(4, size)[:, order].flatten())
    assert advantages.abs().min() > 0


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equals_trl(scale):
    given = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    given[torch.tensor([2, 9, 10])] = NAN
    groups = given.view(-1, 4)
    expected = groups - groups.nanmean(1, keepdim=True)
    if scale == "group":
        expected = expected / (nanstd(groups, dim=1, keepdim=True) + 1e-4)
    elif scale == "batch":
        expected = expected / (nanstd(given) + 1e-4)
    torch.testing.assert_close(group_advantages(given, 4, scale), expected.nan_to_num(0.0).flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_rewards_have_no_advantage(dtype):
    given = torch.rand(500, generator=torch.Generator().manual_seed(0)).to(dtype).repeat_interleave(8) * 5
    assert torch.equal(group_advantages(given, 8, eps=1e-6), torch.zeros(4000, dtype=torch.float64))
    assert equal_groups(given, 8).all()


def test_equal_groups():
    given = rewards(1, 1, 0, 1, NAN, 1, NAN, NAN)
    assert equal_groups(given, 2).tolist() == [True, False, True, True]


def test_released_scores_a_group_of_one():
    assert group_advantages(rewards(3.5, -1.25), 1, eps=0.25, released=True).tolist() == pytest.approx([2.8, -1.0])


def test_released_divides_a_rounding_error():
    given = torch.tensor([3.0, 3.000001, 3.0, 3.0])
    released = group_advantages(given, 4, eps=1e-6, released=True)
    assert released.tolist() == pytest.approx([-0.161439, 0.484316, -0.161439, -0.161439], abs=1e-4)
    assert not group_advantages(given, 4, eps=1e-6).any()


@pytest.mark.parametrize(
    ("size", "scale", "message"),
    [
        (1, "group", "`num_generations` to be at least 2, but got 1: the advantage of a group of one is always 0"),
        (4, "group", r"multiple of `num_generations`=4, but got \(6,\)"),
        (3, "std", "'group', 'batch' or 'none', but got 'std'"),
    ],
)
def test_errors(size, scale, message):
    with pytest.raises(ValueError, match=message):
        group_advantages(torch.zeros(6), size, scale)


@pytest.mark.parametrize("rewards", [[torch.inf, torch.inf], [torch.inf, 1.0], [-torch.inf, 1.0, torch.nan]])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_an_infinite_reward_is_never_an_advantage(rewards, scale):
    advantages = group_advantages(torch.tensor(rewards, dtype=torch.float64), len(rewards), scale)
    assert not advantages[:2].isfinite().any()
