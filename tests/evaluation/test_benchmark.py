"""A whole benchmark: what comes out, whatever the predictions look like, on any number of threads, and after a stop."""

import importlib.metadata
import json
import math
import os
from array import array
from dataclasses import asdict
from pathlib import Path

import pytest

from datamodules import LongRVOS, MeViS, OwnVideos, ReVOS
from evaluation.benchmark import ROWS, evaluate
from evaluation.functional import boundary_accuracy, region_similarity, robustness
from evaluation.protocols import (
    LongRVOSProtocol,
    MeViSProtocol,
    OwnVideosProtocol,
    RefDAVIS17AnnotatorsProtocol,
    ReVOSProtocol,
)
from evaluation.scoring import Scorer
from tests.builders import two_squares, write_json, write_mevis, write_own_videos, write_revos
from tests.evaluation.predicted import answers, expected, write_results, write_tree, write_zip
from tests.layouts_video import write_long_rvos


@pytest.fixture
def dataset(tmp_path):
    return ReVOS(write_revos(tmp_path / "revos"), "valid")


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "predicted", answers())


def same(first, second):
    """Whether two evaluations hold the same numbers to the last bit; NaN equals NaN."""
    return str(asdict(first) | {"setting": 0}) == str(asdict(second) | {"setting": 0})


def test_numbers_are_those_of_the_measures(dataset, tree):
    evaluation = evaluate(dataset, tree, ReVOSProtocol())
    assert [result.key for result in evaluation.results] == [record.key for record in dataset.index]
    masks = two_squares()
    means = {}
    for result, objects in zip(evaluation.results, ([0], [1], [0, 1], []), strict=False):
        pred, target = expected(objects), masks[objects].any(dim=0)
        rows = {
            "J": region_similarity(pred, target),
            "F": boundary_accuracy(pred, target),
            "R": robustness(pred, target, masks.any(dim=0)),
        }
        for name, values in rows.items():
            assert result.per_frame[name] == array("d", values.tolist())
            assert result.row[name] == pytest.approx(float(values.mean()), abs=1e-12)
            means.setdefault((result.group, name), []).append(float(values.mean()))
        assert result.frame_names == [f"{time:05d}" for time in range(6)]
        assert (result.problems, result.missing, result.lost, result.counted, result.measurable) == ([], 0, None, 1, 1)
    for (group, name), values in means.items():  # both videos are the same
        assert evaluation.table[group][name] == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert evaluation.problems == []
    assert evaluation.setting["encoding"] == "0/255"
    assert evaluation.setting["rules"] == "ours: what is missing counts 0, defects of the published tool are repaired"


def test_every_layout_and_any_number_of_workers_give_the_same_numbers(tmp_path, dataset, tree):
    reference = evaluate(dataset, tree, ReVOSProtocol())
    for path in (write_zip(tmp_path / "x.zip", tree), write_results(tmp_path / "results.json", answers())):
        for workers in (1, 3):
            assert same(evaluate(dataset, path, ReVOSProtocol(), workers), reference)


def test_mevis(tmp_path):
    dataset = MeViS(write_mevis(tmp_path / "mevis"), "valid_u")
    tree = write_tree(tmp_path / "predicted", answers(("a", "b"), typed=False), "palette")
    evaluation = evaluate(dataset, tree, MeViSProtocol())
    assert evaluation.setting["encoding"] == "palette"
    assert set(evaluation.table) == {"overall"}
    rows = [result.row["J"] for result in evaluation.results]
    assert evaluation.table["overall"]["J"] == pytest.approx(sum(rows) / 6, abs=1e-12)


def test_what_is_missing_counts_zero_and_is_named(dataset, tree):
    for time in (0, 1, 2):
        (tree / f"toy/a/0/{time:05d}.png").unlink()
    for file in (tree / "toy/a/1").iterdir():
        file.unlink()
    evaluation = evaluate(dataset, tree, ReVOSProtocol())
    first, second = evaluation.results[:2]
    whole = region_similarity(expected([0]), two_squares()[0])
    assert first.row["J"] == pytest.approx(float(whole[3:].sum()) / 6, abs=1e-12)
    assert (first.missing, first.lost) == (3, None)
    assert first.problems[0].startswith("toy/a/0: `toy/a/0` has no `00000.png`")
    assert {name: second.row[name] for name in "JFR"} == {"J": 0.0, "F": 0.0, "R": 0.0}
    assert (second.missing, second.lost) == (6, "expression")
    official = evaluate(dataset, tree, ReVOSProtocol(official=True))
    assert {name: official.results[0].row[name] for name in "JFR"} == {"J": 0.0, "F": 0.0, "R": 0.0}
    assert official.setting["rules"].startswith("official: as the published tool does, defects included")


def test_what_the_tool_drops_is_not_counted(tmp_path):
    dataset = MeViS(write_mevis(tmp_path / "mevis"), "valid_u")
    masks = answers(("a", "b"), typed=False)
    del masks["a", "0"]
    evaluation = evaluate(dataset, write_tree(tmp_path / "predicted", masks), MeViSProtocol(official=True))
    dropped = evaluation.results[0]
    assert (dropped.counted, dropped.measurable, dropped.row, dropped.per_frame) == (False, True, {}, {})
    others = [result.row["J"] for result in evaluation.results[1:]]
    assert evaluation.table["overall"]["J"] == pytest.approx(sum(others) / 5, abs=1e-12)


def test_a_broken_annotation_is_listed_and_counts_nowhere(dataset, tree):
    path = dataset.root / "mask_dict.json"
    tracks = json.loads(path.read_text())
    write_json(path, tracks | {"0": tracks["0"][:-1]})
    whole = evaluate(ReVOS(dataset.root, "valid"), tree, ReVOSProtocol())
    broken = [result for result in whole.results if not result.measurable]
    assert [result.key for result in broken] == ["toy/a/0", "toy/a/2"]
    assert broken[0].problems[0].startswith("toy/a/0: not measurable: toy/a/0, object 0: expected one mask or null")
    others = [result.row["J"] for result in whole.results if result.measurable and result.group == "referring"]
    assert len(others) == 2
    assert whole.table["referring"]["J"] == pytest.approx(sum(others) / 2, abs=1e-12)


def test_unknown_videos_and_files_are_problems_of_the_whole(dataset, tree):
    write_tree(tree, {("else", "0"): expected([0])[:1]})
    evaluation = evaluate(dataset, tree, ReVOSProtocol())
    assert evaluation.problems == ["`else/0`: `00000.png`, of no expression of the dataset, not read"]


def test_hidden_masks_and_unknown_groups_are_refused_before_anything_is_read(tmp_path, dataset, tree):
    hidden = MeViS(write_mevis(tmp_path / "mevis"), "valid")
    with pytest.raises(ValueError, match="`thinkseg submit`"):
        evaluate(hidden, tree, MeViSProtocol(), out=tmp_path / "out")
    with pytest.raises(ValueError, match="to be one of"):
        evaluate(MeViS(tmp_path / "mevis", "valid_u"), tree, ReVOSProtocol(), out=tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        evaluate(dataset, tmp_path / "nothing", ReVOSProtocol(), out=tmp_path / "out")
    for workers in (0, -1):
        with pytest.raises(ValueError, match=f"Expected at least 1 worker, but got {workers}"):
            evaluate(dataset, tree, ReVOSProtocol(), workers, out=tmp_path / "out")
    for out in (tree, tree / "out", tree / "toy/../../predicted/out"):
        with pytest.raises(ValueError, match="outside of the predictions"):
            evaluate(dataset, tree, ReVOSProtocol(), out=out)
    assert not (tree / "out").exists()
    assert not (tree / ROWS).exists()
    assert not (tmp_path / "out").exists()


def test_a_protocol_of_several_expressions_is_refused_where_it_does_not_fit(tmp_path):
    dataset = MeViS(write_mevis(tmp_path / "mevis"), "valid_u")
    tree = write_tree(tmp_path / "predicted", answers(("a", "b"), typed=False))
    message = r"one object for each expression, as RefDAVIS17An.* but got 2 for 'a/2': it is not the protocol of MeViS"
    with pytest.raises(ValueError, match=message):
        evaluate(dataset, tree, RefDAVIS17AnnotatorsProtocol(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_single_hidden_expression_is_not_measurable(tmp_path):
    root = write_own_videos(tmp_path / "own")
    dataset = OwnVideos(root)
    tree = write_tree(tmp_path / "x", {(each.video_id, each.expression_id): expected([0]) for each in dataset.index})
    evaluation = evaluate(dataset, tree, OwnVideosProtocol())
    assert [result.measurable for result in evaluation.results] == [True, True, False] * 2
    message = "expected masks to measure by, but the dataset has none for this expression"
    assert evaluation.results[2].problems == [f"folder/2: not measurable: 'folder/2': {message}"]
    content = json.loads((root / "videos.json").read_text())
    for video in content["videos"].values():
        video["expressions"].reverse()
    write_json(root / "videos.json", content)
    again = evaluate(OwnVideos(root), tree, OwnVideosProtocol())
    assert [result.measurable for result in again.results] == [False, True, True] * 2
    for video in content["videos"].values():
        video["expressions"] = video["expressions"][:1]
    write_json(root / "videos.json", content)
    with pytest.raises(ValueError, match="hides those of split"):
        evaluate(OwnVideos(root), tree, OwnVideosProtocol())


# --- going on ----------------------------------------------------------------------------------------------------


def counting(monkeypatch):
    """Count the units that are scored."""
    scored = []
    original = Scorer.__call__

    def score(self, number, unit):
        scored.append(number)
        return original(self, number, unit)

    monkeypatch.setattr(Scorer, "__call__", score)
    return scored


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_run_goes_on_with_the_same_numbers(tmp_path, dataset, tree, monkeypatch, workers):
    reference = evaluate(dataset, tree, ReVOSProtocol())

    def stop(outcomes, total):
        for number, outcome in enumerate(outcomes):
            if number == 5:
                raise KeyboardInterrupt
            yield outcome

    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, tree, ReVOSProtocol(), workers, tmp_path, stop)
    with (tmp_path / ROWS).open("ab") as file:
        file.write(b'{"unit": 7, "results": [{"vid')  # as a machine leaves it that stops while writing
    scored = counting(monkeypatch)
    totals = []
    assert same(
        evaluate(dataset, tree, ReVOSProtocol(), workers, tmp_path, lambda each, total: totals.append(total) or each),
        reference,
    )
    assert (len(scored), totals) == (3, [3])
    again = evaluate(dataset, tree, ReVOSProtocol(), workers, tmp_path)
    assert same(again, reference)
    assert len(scored) == 3
    lines = (tmp_path / ROWS).read_text().splitlines()
    assert len(lines) == 9
    assert sorted(json.loads(line)["unit"] for line in lines[1:]) == list(range(8))


def test_what_was_not_measurable_is_measured_anew(tmp_path, monkeypatch):
    dataset = LongRVOS(write_long_rvos(tmp_path / "long"), "valid")
    path = write_results(
        tmp_path / "x.json", {(record.video_id, record.expression_id): expected([0]) for record in dataset.index}
    )
    picture = dataset.root / "valid/Annotations/a/0/00000.png"
    whole = picture.read_bytes()

    def measure():
        return evaluate(dataset, path, LongRVOSProtocol(), out=tmp_path)

    picture.write_bytes(b"broken")
    broken = [number for number, result in enumerate(measure().results) if not result.measurable]
    assert broken
    picture.write_bytes(whole)
    scored = counting(monkeypatch)
    second, third = measure(), measure()
    assert scored == broken
    assert all(result.measurable for result in second.results)
    assert same(second, third)


def test_measures_that_do_not_apply_come_back(tmp_path, dataset, tree):
    (dataset.root / "mask_dict_foreground.json").unlink()
    monocular = ReVOS(dataset.root, "valid")
    monocular.foreground = lambda record: None
    first, second = (evaluate(monocular, tree, ReVOSProtocol(), out=tmp_path) for _ in range(2))
    assert math.isnan(second.results[0].row["R"])
    assert same(first, second)


def test_a_number_of_a_frame_takes_8_bytes_and_its_name_none(tmp_path, dataset, tree):
    for _ in range(2):
        results = evaluate(dataset, tree, ReVOSProtocol(), out=tmp_path / "out").results
        for result in results:
            for values in result.per_frame.values():
                assert (values.itemsize, len(values)) == (8, 6)
    assert len({id(name) for result in results for name in result.frame_names}) == 6


@pytest.mark.parametrize("what", ["official", "predictions", "dataset", "code", "version", "garbage", "deep"])
def test_another_setting_begins_anew_and_says_so(tmp_path, dataset, tree, monkeypatch, caplog, what):
    evaluate(dataset, tree, ReVOSProtocol(), out=tmp_path)
    rows = tmp_path / ROWS
    if what == "predictions":
        write_tree(tree, {("toy/a", "0x"): expected([0])})
    elif what == "dataset":
        write_json(dataset.root / "mask_dict_foreground.json", {})
    elif what == "code":
        monkeypatch.setattr(importlib.metadata, "version", "9.9 of {}".format)
    elif what == "version":
        rows.write_text(rows.read_text().replace('"version": 1', '"version": 0', 1))
    elif what == "garbage":
        rows.write_text("garbage\n" + rows.read_text())
    elif what == "deep":
        rows.write_text("[" * 100_000 + "\n" + rows.read_text())
    scored = counting(monkeypatch)
    evaluate(ReVOS(dataset.root, "valid"), tree, ReVOSProtocol(official=what == "official"), out=tmp_path)
    assert len(scored) == 8
    assert f"`{rows}` is begun anew" in caplog.text
    assert len(rows.read_text().splitlines()) == 9


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_loses_nothing_that_was_finished(tmp_path, dataset, tree, monkeypatch, workers):
    original = Scorer.__call__

    def break_once(self, number, unit):
        if number == 3:
            raise RuntimeError("a bug")
        return original(self, number, unit)

    monkeypatch.setattr(Scorer, "__call__", break_once)
    with pytest.raises(RuntimeError, match="a bug"):
        evaluate(dataset, tree, ReVOSProtocol(), workers, tmp_path)
    units = [json.loads(line)["unit"] for line in (tmp_path / ROWS).read_text().splitlines()[1:]]
    assert {0, 1, 2} <= set(units)
    assert 3 not in units


def test_an_unsafe_name_is_not_measurable(dataset, tree):
    meta = json.loads((dataset.root / "meta_expressions_valid_.json").read_text())
    meta["videos"]["../up"] = meta["videos"].pop("toy/b")
    write_json(dataset.root / "meta_expressions_valid_.json", meta)
    evaluation = evaluate(ReVOS(dataset.root, "valid"), tree, ReVOSProtocol())
    assert [result.measurable for result in evaluation.results] == [True] * 4 + [False] * 4
    assert "expected a relative name" in evaluation.results[4].problems[0]


def test_text_that_is_no_unicode_stops_nothing(tmp_path, dataset, tree):
    meta = json.loads((dataset.root / "meta_expressions_valid_.json").read_text())
    meta["videos"]["toy/a"]["expressions"]["0"]["exp"] = "half a smile \ud83d"
    write_json(dataset.root / "meta_expressions_valid_.json", meta)
    Path(os.fsdecode(bytes(tree / "toy/a/0") + b"/\xff.png")).write_bytes(b"")
    first, second = (
        evaluate(ReVOS(dataset.root, "valid"), tree, ReVOSProtocol(), out=tmp_path / "out") for _ in range(2)
    )
    assert first.problems == ["`toy/a/0`: `\\udcff.png`, no frames of the video, not read"]
    assert second.results[0].expression == "half a smile \ud83d"
    assert same(first, second)
