import math
import os

import pytest
import torch

from evaluation import Prediction, ReVOSProtocol, Truth, VideoMetrics
from evaluation.functional import BitMasks, boundary_accuracy, region_similarity
from evaluation.protocols import OwnVideosProtocol, ViCaSProtocol

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


def test_means_are_of_groups():
    table = measured(ReVOSProtocol(), PERFECT, HALF, MISSED, HALLUCINATED).compute()
    assert table.keys() == {"referring", "reasoning", "absent", "overall"}
    assert table["referring"]["J"] == pytest.approx(2 / 3)
    assert table["reasoning"]["J"] == 0
    # of the two means, not of the three expressions, and without the absent target
    assert table["overall"]["J"] == pytest.approx(1 / 3)
    assert [table[group]["reward"] for group in ("referring", "reasoning", "overall")] == [0.75, 0, 0.375]


def test_what_does_not_apply_is_left_out():
    table = measured(ReVOSProtocol(), (*PERFECT[:2], None, "referring"), HALF[:4], (*MISSED[:2], None, "reasoning"))
    result = table.compute()
    assert result["referring"]["R"] == pytest.approx(0.5)
    assert math.isnan(result["reasoning"]["R"])
    assert result["overall"]["R"] == pytest.approx(0.5)
    assert "reward" not in result["overall"]


def test_empty():
    protocol = ReVOSProtocol()
    table = VideoMetrics(protocol).compute()
    assert table.keys() == {"overall"}
    assert table["overall"].keys() == protocol.columns.keys()
    assert all(math.isnan(value) for value in table["overall"].values())


@pytest.mark.parametrize("cast", [lambda module: module.to(torch.bfloat16), lambda module: module.half()])
def test_numbers_stay_exact_in_a_module_that_is_cast(cast):
    metric = measured(OwnVideosProtocol(), HALF)
    module = cast(torch.nn.ModuleList([metric, torch.nn.Linear(1, 1)]))
    assert module[1].weight.dtype != torch.float32
    update(metric, *HALF)
    assert [row.dtype for row in metric.measured] == [torch.float64] * 2
    assert metric.dtype == torch.float64
    assert metric.compute()["overall"]["J"] == pytest.approx(1 / 3, abs=1e-15)


def test_a_reward_that_is_no_number_is_seen():
    metric = VideoMetrics(OwnVideosProtocol())
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
    metrics = measured(OwnVideosProtocol(), *random_expressions(7))
    expressions = list(random_expressions(7))
    expected = {
        "J": sum(region_similarity(p, t).mean().item() for p, t, *_ in expressions) / 7,
        "F": sum(boundary_accuracy(p, t).mean().item() for p, t, *_ in expressions) / 7,
    }
    table = metrics.compute()["overall"]
    assert {name: table[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ((NOTHING, NOTHING, None, "funny"), "`group` to be one of .*, but got 'funny'"),
        ((NOTHING, NOTHING), "but got None: ReVOSProtocol is not the protocol of this dataset"),
        ((NOTHING[:0], NOTHING[:0], None, "referring"), r"at least one frame, but got \(0, 32, 32\)"),
        ((NOTHING, NOTHING[:, :5], None, "referring"), "masks of one shape"),
    ],
)
def test_errors_change_nothing(expression, message):
    metrics = measured(ReVOSProtocol(), PERFECT)
    before = metrics.compute()
    with pytest.raises(ValueError, match=message):
        update(metrics, *expression)
    assert metrics.table() == near(before)


def shard(rank):
    """Rank 0 has five expressions of all groups, rank 1 two, rank 2 none."""
    return list(random_expressions(7))[[slice(0, 5), slice(5, 7), slice(0, 0)][rank]]


def near(table):
    return {row: pytest.approx(values, abs=1e-8, nan_ok=True) for row, values in table.items()}


def test_rows_can_be_added_that_were_measured_elsewhere():
    protocol = ReVOSProtocol()
    metrics = VideoMetrics(protocol)
    for pred, target, foreground, group, _ in random_expressions(7):
        shape = tuple(target.shape)
        truth = Truth(shape, [BitMasks.of(target)], BitMasks.of(foreground))
        [scores] = protocol.score(Prediction(shape, [BitMasks.of(pred)]), truth, group)
        metrics.add(scores.group, scores.row)
    expected = measured(protocol, *(expression[:4] for expression in random_expressions(7))).compute()
    assert metrics.table() == near(expected)


def test_official_track_map_knows_the_order_of_expressions():
    tables = []
    for expressions in ((HALF, PERFECT), (PERFECT, HALF)):
        metrics = measured(ViCaSProtocol(official=True), *(each[:2] for each in expressions))
        tables.append(metrics.compute()["overall"]["AP50"])
    assert tables == [0.25, 0.5]


def _compute_on(rank, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    tables = []
    for shards in ((0, 1), (2, 0), (2, 2)):  # unequal, then one empty, then both
        tables.append(measured(ReVOSProtocol(), *shard(shards[rank])).compute())
    torch.save(tables, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(_compute_on, (str(tmp_path),), nprocs=2)
    expected = [
        measured(ReVOSProtocol(), *shard(0), *shard(1)).compute(),
        measured(ReVOSProtocol(), *shard(0)).compute(),
        VideoMetrics(ReVOSProtocol()).compute(),
    ]
    for rank in range(2):
        tables = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for table, wanted in zip(tables, expected, strict=True):
            assert table == near(wanted)
