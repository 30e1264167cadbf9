import math
import os

import pytest
import torch

from evaluation import MeViSProtocol, Prediction, ReVOSProtocol, Truth, VideoMetrics
from evaluation.functional import BitMasks, boundary_accuracy, region_similarity

SIZE = 32


def square(left, side=8, frames=2):
    """A square that stands still; half of it is outside a square four pixels further right."""
    mask = torch.zeros(frames, SIZE, SIZE, dtype=torch.bool)
    mask[:, 8 : 8 + side, left : left + side] = True
    return mask


NOTHING = square(0, 0)
#: pred, target, foreground, group, reward
PERFECT = (square(8), square(8), square(8), "referring", 1.0)
HALF = (square(8), square(12), square(12), "referring", 0.5)
MISSED = (NOTHING, square(8), square(8), "reasoning", 0.0)
HALLUCINATED = (square(8), NOTHING, NOTHING, "absent", 0.0)


def update(metrics, pred, target, foreground=None, group=None, reward=None):
    foreground = None if foreground is None else BitMasks.of(foreground)
    truth = Truth(tuple(target.shape), [BitMasks.of(target)], foreground)
    metrics.update(Prediction(tuple(pred.shape), [BitMasks.of(pred)]), truth, group, reward)


def measured(protocol, *expressions):
    metrics = VideoMetrics(protocol)
    for expression in expressions:
        update(metrics, *expression)
    return metrics


def test_revos_table():
    table = measured(ReVOSProtocol(), PERFECT, HALF, MISSED, HALLUCINATED).compute()
    # J of HALF is 32 / 96; 32 of its pixels are wrong where 64 are foreground
    half_f = boundary_accuracy(*HALF[:2]).mean().item()
    assert table["referring"] == pytest.approx(
        {"J": 2 / 3, "F": (1 + half_f) / 2, "JF": (2 / 3 + (1 + half_f) / 2) / 2, "R": 0.75, "reward": 0.75}
    )
    assert table["reasoning"] == {"J": 0, "F": 0, "JF": 0, "R": 1, "reward": 0}
    assert table["absent"] == {"J": 0, "F": 0, "JF": 0, "R": 0, "reward": 0}
    # of the two means, not of the three expressions, and without the absent target
    assert table["overall"]["J"] == pytest.approx(1 / 3)
    assert table["overall"]["reward"] == pytest.approx(0.375)
    assert table["overall"]["R"] == pytest.approx(0.875)


def test_mevis_table():
    table = measured(MeViSProtocol(), PERFECT, HALF, MISSED).compute()
    assert table.keys() == {"overall"}
    assert table["overall"]["J"] == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_one_group_is_overall():
    table = measured(ReVOSProtocol(), PERFECT, HALF).compute()
    assert table.keys() == {"referring", "overall"}
    assert table["overall"] == pytest.approx(table["referring"])


def test_only_absent_targets():
    table = measured(ReVOSProtocol(), HALLUCINATED).compute()
    assert table["absent"]["J"] == 0
    assert all(math.isnan(value) for value in table["overall"].values())


def test_what_does_not_apply_is_left_out():
    table = measured(ReVOSProtocol(), (*PERFECT[:2], None, "referring"), HALF[:4], (*MISSED[:2], None, "reasoning"))
    result = table.compute()
    assert result["referring"]["R"] == pytest.approx(0.5)
    assert math.isnan(result["reasoning"]["R"])
    assert result["overall"]["R"] == pytest.approx(0.5)
    assert "reward" not in result["overall"]


def test_empty():
    table = VideoMetrics(ReVOSProtocol()).compute()
    assert table.keys() == {"overall"}
    assert table["overall"].keys() == {"J", "F", "JF", "R"}
    assert all(math.isnan(value) for value in table["overall"].values())


@pytest.mark.parametrize("cast", [lambda module: module.to(torch.bfloat16), lambda module: module.half()])
def test_sums_stay_exact_in_a_module_that_is_cast(cast):
    metric = VideoMetrics(MeViSProtocol())
    module = cast(torch.nn.ModuleList([metric, torch.nn.Linear(1, 1)]))
    assert module[1].weight.dtype != torch.float32
    for _ in range(2):
        assert metric.sums.dtype == metric.counts.dtype == torch.float64
        metric.reset()


def test_a_reward_that_is_no_number_is_seen():
    metric = VideoMetrics(MeViSProtocol())
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    for reward in (1.0, math.inf):
        update(metric, mask, mask, reward=reward)
    assert metric.compute()["overall"]["reward"] == math.inf


def test_reset():
    metrics = measured(ReVOSProtocol(), PERFECT)
    metrics.reset()
    update(metrics, *MISSED)
    assert metrics.compute().keys() == {"reasoning", "overall"}


def random_expressions(count):
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        pred, target, other = (torch.rand(3, 24, 30, generator=generator) < 0.5 for _ in range(3))
        yield pred, target, target | other, ("referring", "reasoning", "absent")[number % 3], number / 10


def test_class_equals_functions():
    metrics = measured(MeViSProtocol(), *random_expressions(7))
    expressions = list(random_expressions(7))
    expected = {
        "J": sum(region_similarity(p, t).mean().item() for p, t, *_ in expressions) / 7,
        "F": sum(boundary_accuracy(p, t).mean().item() for p, t, *_ in expressions) / 7,
    }
    table = metrics.compute()["overall"]
    assert {name: table[name] for name in expected} == pytest.approx(expected)


def test_official_revos_rounds_each_expression_and_counts_wrong_pixels_255_times():
    pred, target, foreground = square(8), square(11), square(0, 24)
    # 40 of 88 pixels are shared: 45.4545… %; 24 are wrong, 6120 of 576: R is 0
    table = measured(ReVOSProtocol(official=True), (pred, target, foreground, "referring")).compute()
    assert table["overall"]["J"] == 0.4545
    assert table["overall"]["R"] == 0
    repaired = measured(ReVOSProtocol(), (pred, target, foreground, "referring")).compute()
    assert repaired["overall"]["J"] == pytest.approx(40 / 88)
    assert repaired["overall"]["R"] == pytest.approx(1 - 24 / 576)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ((NOTHING, NOTHING, None, "funny"), "`group` to be one of .*, but got 'funny'"),
        ((NOTHING, NOTHING), "but got None: use `MeViSProtocol`"),
        ((NOTHING[:0], NOTHING[:0], None, "referring"), r"at least one frame, but got \(0, 32, 32\)"),
        ((NOTHING, NOTHING[:, :5], None, "referring"), "masks of one shape"),
    ],
)
def test_errors_change_nothing(expression, message):
    metrics = measured(ReVOSProtocol(), PERFECT)
    before = metrics.compute()
    with pytest.raises(ValueError, match=message):
        update(metrics, *expression)
    metrics._computed = None
    assert metrics.compute() == before


def shard(rank):
    """Rank 0 has five expressions of all groups, rank 1 two, rank 2 none."""
    return list(random_expressions(7))[[slice(0, 5), slice(5, 7), slice(0, 0)][rank]]


def test_states_of_shards_add_up():
    merged = measured(ReVOSProtocol(), *shard(0))
    for rank in (1, 2):
        other = measured(ReVOSProtocol(), *shard(rank))
        merged.sums += other.sums
        merged.counts += other.counts
    merged._computed = None
    expected = measured(ReVOSProtocol(), *random_expressions(7)).compute()
    assert {row: pytest.approx(values) for row, values in expected.items()} == merged.compute()


def _compute_on(rank, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    tables = []
    for shards in ((0, 1), (2, 0)):  # unequal, then one empty
        tables.append(measured(ReVOSProtocol(), *shard(shards[rank])).compute())
    torch.save(tables, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(_compute_on, (str(tmp_path),), nprocs=2)
    expected = [
        measured(ReVOSProtocol(), *shard(0), *shard(1)).compute(),
        measured(ReVOSProtocol(), *shard(0)).compute(),
    ]
    for rank in range(2):
        tables = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for table, wanted in zip(tables, expected, strict=True):
            assert {row: pytest.approx(values) for row, values in wanted.items()} == table
