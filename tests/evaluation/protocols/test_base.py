import math

import pytest
import torch

from datamodules import LongRVOS, MeViS, ReasonVOS, RefDAVIS17, RefSAV, RefYouTubeVOS, ReVOS
from evaluation import protocols
from evaluation.functional import boundary_accuracy, region_similarity
from evaluation.protocols import BenchmarkProtocol, Missing, protocol_of
from tests.evaluation.protocols.cases import film, nothing, prediction, rows, table, truth

#: the default protocol of each dataset
DATASETS = {
    "GroundMoRe": protocols.GroundMoReProtocol,
    "LongRVOS": protocols.LongRVOSProtocol,
    "MeViS": protocols.MeViSProtocol,
    "MeViSv2": protocols.MeViSv2Protocol,
    "OwnVideos": protocols.OwnVideosProtocol,
    "ReVOS": protocols.ReVOSProtocol,
    "ReasonSeg": protocols.ReasonSegProtocol,
    "ReasonVOS": protocols.ReasonVOSProtocol,
    "RefCOCO": protocols.RefCOCOProtocol,
    "RefDAVIS17": protocols.RefDAVIS17Protocol,
    "RefSAV": protocols.RefSAVProtocol,
    "RefYouTubeVOS": protocols.RefYouTubeVOSProtocol,
    "ViCaS": protocols.ViCaSProtocol,
}
ALL = [each for each in protocols.protocols() if each.__module__.startswith("evaluation.")]
#: those that score J of a single expression
SINGLE = [each for each in ALL if "J" in each.measures and not each.together]
#: what the published tools make of a missing video, expression, frame
TOOLS = {
    protocols.GroundMoReProtocol: ("zero", "zero", "zero"),
    protocols.LongRVOSProtocol: ("zero", "drop", "empty"),
    protocols.MeViSProtocol: ("zero", "drop", "drop"),
    protocols.MeViSv2Protocol: ("zero", "drop", "drop"),
    protocols.OwnVideosProtocol: ("zero", "zero", "zero"),
    protocols.ReVOSProtocol: ("zero", "zero", "zero expression"),
    protocols.ReasonVOSProtocol: ("drop", "drop", "drop"),
    protocols.RefDAVIS17Protocol: ("zero", "drop", "drop"),
    protocols.RefSAVProtocol: ("drop", "drop", "drop"),
    protocols.RefYouTubeVOSProtocol: ("zero", "zero", "zero"),
}


def group_of(protocol):
    return protocol.groups[0] if protocol.groups else None


def test_every_dataset_has_a_protocol():
    assert {name: protocol_of(name) for name in DATASETS} == DATASETS


@pytest.mark.parametrize("protocol", ALL)
def test_runs_are_compared_by_a_column_even_where_nothing_was_measured(protocol):
    assert protocol.headline in protocol.columns
    assert protocol.headline in protocol().table({})["overall"]


def test_a_derived_protocol_is_not_the_dataset_s():
    class Stricter(protocols.MeViSProtocol):
        """Another one."""

    assert protocol_of("MeViS") is protocols.MeViSProtocol
    with pytest.raises(ValueError, match=r"GroundMoRe, .*ViCaS, but got 'Kitchen': name one of .*RefDAVIS17Annot.*Str"):
        protocol_of("Kitchen")


@pytest.mark.parametrize("protocol", ALL)
def test_columns_are_what_the_table_has(protocol):
    for official in (False, True):
        empty = protocol(official).table({})
        assert empty.keys() == {"overall"}
        assert empty["overall"].keys() == protocol.columns.keys()
        assert all(math.isnan(value) for value in empty["overall"].values())


@pytest.mark.parametrize("protocol", ALL)
def test_the_setting_says_whose_rules_they_are(protocol):
    ours, tools = protocol().setting(), protocol(official=True).setting()
    assert ours["protocol"] == tools["protocol"] == protocol.__name__
    assert ours["rules"].startswith("ours: ")
    assert tools["rules"].startswith("official: ")
    assert protocol.tool_name in tools["rules"]


@pytest.mark.parametrize("protocol", SINGLE)
@pytest.mark.parametrize("official", [False, True])
def test_a_perfect_prediction(protocol, official):
    target = film(8, (4, 20))
    result = table(protocol(official), (prediction(target), truth(target, foreground=target), group_of(protocol)))
    assert {result["overall"][name] for name in ("J", "F", "JF")} == {1}


@pytest.mark.parametrize("protocol", SINGLE)
def test_means_over_frames_and_then_expressions(protocol):
    pred, target = film(8, 4), film(16, 16)
    given = (prediction(pred), truth(target, foreground=target), group_of(protocol))
    result = table(protocol(), given, (prediction(target), *given[1:]))["overall"]
    assert result["J"] == pytest.approx(((1 / 2 + 1 / 4) / 2 + 1) / 2)
    assert result["F"] == pytest.approx((boundary_accuracy(pred, target).mean().item() + 1) / 2)
    assert result["JF"] == pytest.approx((result["J"] + result["F"]) / 2)


@pytest.mark.parametrize("protocol", SINGLE)
def test_objects_and_tracks_are_united(protocol):
    both = prediction(film((0, 4), 0), film((2, 8), 8))
    annotated = truth(film((0, 6), 8), film((4, 8), 0), foreground=film(8, 8))
    assert table(protocol(), (both, annotated, group_of(protocol)))["overall"]["J"] == 1


@pytest.mark.parametrize("protocol", SINGLE)
def test_void_does_not_count_but_for_one(protocol):
    pred, target, void = film(8, 8), film(4, 8), film((4, 8), 0)
    result = table(protocol(), (prediction(pred), truth(target, foreground=target, void=void), group_of(protocol)))
    assert result["overall"]["J"] == (0.75 if protocol is protocols.RefDAVIS17Protocol else 1)


@pytest.mark.parametrize("protocol", SINGLE)
def test_ours_counts_what_is_missing_as_0(protocol):
    target = film(8, 8, 0, 0)
    annotated = truth(target, foreground=target)
    half = prediction(target, missing=(1, 3))
    [scores] = protocol().score(half, annotated, group_of(protocol))
    assert scores.row["J"] == scores.row["F"] == 0.5
    assert scores.per_frame["J"].tolist() == [1, 0, 1, 0]  # also where an empty mask would have been right
    for lost in ("expression", "video"):
        [scores] = protocol().score(nothing(4, lost), annotated, group_of(protocol))
        assert scores.row.keys() == set(protocol.measures)
        assert {number for number in scores.row.values() if not math.isnan(number)} == {0}


@pytest.mark.parametrize("protocol", TOOLS)
def test_official_follows_the_tool(protocol):
    assert protocol.tool == Missing(*TOOLS[protocol])
    target = film(8, 8, 0, 0)
    annotated = truth(target, foreground=target)
    # in frame 2 an empty mask would be right
    cases = (nothing(4, "video"), nothing(4, "expression"), prediction(target, missing=(2,)))
    worth = {"zero": [0.75], "empty": [1.0], "zero expression": [0.0], "drop": []}
    for case, rule in zip(cases, TOOLS[protocol], strict=True):
        got = [scores.row["J"] for scores in protocol(official=True).score(case, annotated, group_of(protocol))]
        assert got == ([0.0] if rule == "zero" and case.lost else worth[rule])


def test_every_tool_is_in_the_table():
    assert set(TOOLS) == set(SINGLE)


@pytest.mark.parametrize("protocol", [each for each in SINGLE if each.groups])
def test_unknown_groups(protocol):
    target = film(8, 8)
    for group in ("funny", None):
        if protocol is protocols.MeViSv2Protocol:
            assert protocol().row(group) == "target"
            continue
        with pytest.raises(ValueError, match=f"one of .*but got {group!r}: {protocol.__name__} is not the protocol of"):
            protocol().score(prediction(target), truth(target), group)


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (protocols.ReasonVOSProtocol, ("short", "long")),
        (protocols.GroundMoReProtocol, ("causal", "sequential", "counterfactual", "descriptive")),
        (protocols.LongRVOSProtocol, ("static", "dynamic", "hybrid")),
    ],
)
def test_overall_pools_every_expression(protocol, names):
    target = film(8, 8)
    right, wrong = (prediction(target), truth(target)), (prediction(film(0, 0)), truth(target))
    result = table(protocol(), (*right, names[0]), (*wrong, names[1]), (*wrong, names[1]), (*wrong, names[-1]))
    assert list(result) == [name for name in names if name in (names[0], names[1], names[-1])] + ["overall"]
    assert result[names[0]]["J"] == 1
    assert result["overall"]["J"] == 0.25


@pytest.mark.parametrize(
    ("protocol", "names"),
    [(protocols.ReVOSProtocol, ("referring", "reasoning")), (protocols.RefSAVProtocol, ("long", "short"))],
)
def test_overall_is_the_mean_of_two_means(protocol, names):
    target = film(8, 8)
    right, wrong = (prediction(target), truth(target)), (prediction(film(0, 0)), truth(target))
    result = table(protocol(), (*right, names[0]), (*wrong, names[1]), (*wrong, names[1]), (*wrong, names[1]))
    assert result["overall"]["J"] == 0.5
    alone = table(protocol(), (*right, names[0]))
    assert alone["overall"]["J"] == alone[names[0]]["J"] == 1


def test_rewards_are_averaged_as_the_measures_are():
    protocol = protocols.ReVOSProtocol()
    result = protocol.table({"referring": [{"J": 1.0, "reward": 3.0}], "reasoning": [{"reward": 1.0}, {"reward": 0.0}]})
    assert [result[name]["reward"] for name in ("referring", "reasoning", "overall")] == [3, 0.5, 1.75]


@pytest.mark.parametrize(
    ("pred", "annotated", "message"),
    [
        (prediction(film(1, 1)), truth(film(1)), r"one shape .*got \(2, 1, 40\) predicted and \(1, 1, 40\) annotated"),
        (prediction(frames=0), truth(frames=0), r"at least one frame, but got \(0, 1, 40\)"),
    ],
)
def test_errors(pred, annotated, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkProtocol().score(pred, annotated)


def test_per_frame_is_what_the_functions_say():
    generator = torch.Generator().manual_seed(0)
    pred, target = (film(*torch.randint(0, 40, (5,), generator=generator).tolist()) for _ in range(2))
    [scores] = BenchmarkProtocol().score(prediction(pred), truth(target))
    assert torch.equal(scores.per_frame["J"], region_similarity(pred, target))
    assert torch.equal(scores.per_frame["F"], boundary_accuracy(pred, target))
    assert rows(BenchmarkProtocol(), (prediction(pred), truth(target)))["overall"] == [scores.row]


@pytest.mark.parametrize("dataset", [LongRVOS, MeViS, ReVOS, ReasonVOS, RefDAVIS17, RefSAV, RefYouTubeVOS])
def test_protocols_know_the_groups_of_their_datasets(dataset):
    assert set(protocol_of(dataset.__name__).groups) == set(dataset.group_names)
