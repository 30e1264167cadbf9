import os

import pytest
import torch

from evaluation import functional, metrics
from evaluation.functional import BitMasks

GROUPS = ("referring", "reasoning")
#: class -> the function it averages, and which of pred, target, foreground it takes
MEANS = {
    metrics.RegionSimilarity: (functional.region_similarity, "pt"),
    metrics.BoundaryAccuracy: (functional.boundary_accuracy, "pt"),
    metrics.Robustness: (functional.robustness, "ptf"),
    metrics.TemporalIoU: (functional.temporal_iou, "pt"),
    metrics.VideoIoU: (functional.video_iou, "pt"),
    metrics.NoTargetAccuracy: (functional.no_target_accuracy, "p"),
    metrics.TargetAccuracy: (functional.target_accuracy, "p"),
    metrics.GIoU: (functional.image_iou, "pt"),
}
OTHERS = {metrics.JAndF: "pt", metrics.CIoU: "pt", metrics.TrackMAP: "tracks"}
WORDS = {**{metric: words for metric, (_, words) in MEANS.items()}, **OTHERS}


def expressions(count=7):
    """Pred, target, foreground of 4 frames, some of them empty; the group."""
    generator = torch.Generator().manual_seed(3)
    for number in range(count):
        pred, target, other = torch.rand(3, 4, 12, 14, generator=generator) < 0.3 * (number % 3)
        pred[number % 4] = False
        target[(number + 1) % 4] = False
        yield {"p": pred, "t": target, "f": target | other}, (*GROUPS, None)[number % 3]


def tracks(masks):
    """Two objects, the left and the right half, and as predictions the halves with less noise each time."""
    left = torch.arange(14) < 7
    objects = [masks["t"] & left, masks["t"] & ~left]
    return [objects[1] | (masks["p"] & ~left), objects[0], masks["p"]], objects


def words(metric, masks):
    return tracks(masks) if WORDS[metric] == "tracks" else [masks[letter] for letter in WORDS[metric]]


def measured(metric, chosen):
    made = metric(GROUPS)
    for masks, group in chosen:
        made.update(*words(metric, masks), group=group)
    return made


def plain(table):
    return {group: number.item() for group, number in table.items()}


@pytest.mark.parametrize("metric", MEANS)
def test_class_is_the_mean_of_the_function(metric):
    function, _ = MEANS[metric]
    numbers = [(function(*words(metric, masks)).mean().item(), group) for masks, group in expressions()]
    expected = {name: [number for number, group in numbers if group == name] for name in GROUPS}
    expected["overall"] = [number for number, _ in numbers]
    table = plain(measured(metric, expressions()).compute())
    expected = {name: sum(each) / len(each) for name, each in expected.items()}
    assert all(0 <= number <= 1 for number in expected.values())
    assert table == pytest.approx(expected, abs=1e-12)


def test_j_and_f_is_the_mean_of_both():
    parts = [
        measured(metric, expressions()).compute() for metric in (metrics.RegionSimilarity, metrics.BoundaryAccuracy)
    ]
    table = plain(measured(metrics.JAndF, expressions()).compute())
    assert table == pytest.approx({name: (parts[0][name] + parts[1][name]).item() / 2 for name in table})


def test_ciou_is_not_the_mean():
    shared, either = (
        sum(int(combine(masks["p"], masks["t"]).sum()) for masks, _ in expressions())
        for combine in (torch.logical_and, torch.logical_or)
    )
    assert measured(metrics.CIoU, expressions()).compute()["overall"].item() == pytest.approx(shared / either)


def test_track_map_pools_the_tracks():
    found = [functional.found_tracks(functional.track_iou(*tracks(masks))) for masks, _ in expressions()]
    together = torch.cat(found, dim=1)
    precision = functional.average_precision(together.sum(dim=1), together.shape[1], 2 * len(found))
    assert 0 < precision.mean() < 1
    assert measured(metrics.TrackMAP, expressions()).compute()["overall"].item() == pytest.approx(
        precision.mean().item()
    )


@pytest.mark.parametrize("metric", WORDS)
def test_masks_as_bits(metric):
    masks, _ = list(expressions())[5]
    given = words(metric, masks)
    as_bits = [[BitMasks.of(mask) for mask in each] if isinstance(each, list) else BitMasks.of(each) for each in given]
    tables = []
    for arguments in (given, as_bits):
        made = metric()
        made.update(*arguments)
        tables.append(made.compute()["overall"].item())
    assert tables[0] == tables[1]


@pytest.mark.parametrize("metric", WORDS)
def test_unknown_group(metric):
    masks, _ = next(expressions())
    made = metric(GROUPS)
    with pytest.raises(ValueError, match=r"to be None or one of \('referring', 'reasoning'\), but got 'funny'"):
        made.update(*words(metric, masks), group="funny")
    assert not made.totals.any()


@pytest.mark.parametrize("metric", WORDS)
def test_without_expressions_there_is_no_number(metric):
    with pytest.warns(UserWarning, match="before the ``update``"):
        table = metric(GROUPS).compute()
    assert table.keys() == {*GROUPS, "overall"}
    assert all(number.isnan() for number in table.values())


def test_totals_stay_exact_in_a_module_that_is_cast():
    metric = metrics.JAndF()
    torch.nn.ModuleList([metric]).to(torch.bfloat16)
    assert metric.totals.dtype == torch.float64


def shard(rank):
    """Rank 0 has five expressions, rank 1 two, rank 2 none."""
    return list(expressions())[[slice(0, 5), slice(5, 7), slice(0, 0)][rank]]


def _compute_on(rank, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    tables = [
        [plain(measured(metric, shard(shards[rank])).compute()) for metric in WORDS] for shards in ((0, 1), (2, 0))
    ]  # unequal, then one empty
    torch.save(tables, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(_compute_on, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        tables = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for row, chosen in zip(tables, ([*shard(0), *shard(1)], shard(0)), strict=True):
            for metric, table in zip(WORDS, row, strict=True):
                assert table == pytest.approx(plain(measured(metric, chosen).compute()), abs=1e-8, nan_ok=True)
