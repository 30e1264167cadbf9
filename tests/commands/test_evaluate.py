"""``thinkseg evaluate``, in process."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import thinkseg
from datamodules import GroundMoRe
from evaluation.scoring import Scorer
from tests.builders import write_json, write_mevis, write_revos
from tests.evaluation.predicted import answers, write_tree
from tests.layouts_other import write_groundmore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def words(tmp_path):
    """The command on a ReVOS tree and predictions for it."""
    write_revos(tmp_path / "revos")
    write_tree(tmp_path / "run" / "masks", answers(), "palette")
    dataset = ["--dataset", str(ROOT / "configs/data/revos.yaml"), "--dataset.root", str(tmp_path / "revos")]
    return ["evaluate", *dataset, "--split", "valid", "--predictions", str(tmp_path / "run")]


def run(words):
    with pytest.raises(SystemExit) as done:
        thinkseg.main(words)
    return done.value.code


def test_it_prints_and_writes_a_table(tmp_path, words, capsys):
    out = tmp_path / "out"
    assert run([*words, "--out", str(out), "--workers", "2"]) == 0
    shown = capsys.readouterr().out
    for word in ("ReVOSProtocol", "ours: what is missing counts 0", "palette", "referring", "overall", str(out)):
        assert word in shown
    files = {"rows.jsonl", "rows.csv", "table.csv", "table.json", "table.tex", "report.html"}
    assert files <= {path.name for path in out.iterdir()}
    table = json.loads((out / "table.json").read_text())
    assert table["setting"]["split"] == "valid"
    assert run(words) == 0
    assert capsys.readouterr().out in shown


def test_it_says_what_is_missing_and_which_rules_hold(tmp_path, words, capsys):
    (tmp_path / "run/masks/toy/a/0/00001.png").write_bytes(b"cut")
    (tmp_path / "run/masks/toy/b/0/00002.png").unlink()
    assert run([*words, "--official", "--protocol", "ReVOSProtocol"]) == 0
    shown = capsys.readouterr().out
    assert "as the" in shown
    assert "defects included" in shown
    assert "2 of 48 frames have no usable prediction" in shown
    assert "`masks/toy/a/0/00001.png`: expected a readable PNG" in shown
    assert "`masks/toy/b/0` has no `00002.png`: 1 of 6 frames missing" in shown


def test_a_broken_annotation_is_an_exit_status(tmp_path, words, capsys):
    path = tmp_path / "revos/mask_dict.json"
    tracks = json.loads(path.read_text())
    write_json(path, tracks | {"0": tracks["0"][:-1]})
    assert run(words) == 1
    shown = capsys.readouterr().out
    assert "2 of 8 expressions are not measurable: their annotation is broken" in shown
    assert "toy/a/0: not measurable: toy/a/0, object 0: expected one mask or null for each of the 6 frames" in shown


def test_hidden_masks_point_to_submit(tmp_path, words):
    write_mevis(tmp_path / "mevis")
    dataset = ["--dataset", "MeViS", "--dataset.root", str(tmp_path / "mevis"), "--split", "valid"]
    said = run(["evaluate", *dataset, *words[-2:]])
    assert said.startswith("thinkseg evaluate: ")
    assert "`thinkseg submit`" in said


def test_a_mistake_is_a_sentence(tmp_path, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/a\x1b.txt").write_text("[]")
    for further, sentence in {
        ("--predictions", str(tmp_path / "nothing")): "Expected predictions at `.*nothing`, but there is nothing",
        ("--predictions", str(tmp_path / "empty")): "Expected predictions about videos of the dataset",
        ("--predictions", str(tmp_path / "empty/a\x1b.txt")): r"Expected JSON in `.*a\?\.txt`",
        ("--protocol", "LongRVOSProtocol"): "to be one of",
        ("--dataset.root", str(tmp_path / "nothing")): "ReVOS not found in ",
        ("--workers", "0"): "Expected at least 1 worker, but got 0",
        ("--out", str(tmp_path / "run/out")): "Expected a folder for results outside of the predictions",
    }.items():
        said = run([*words, *further])
        assert re.match(f"thinkseg evaluate: .*{sentence}", said), said
        assert "\n" not in said


def test_a_bug_while_measuring_keeps_its_traceback(words, monkeypatch):
    def bug(self, number, unit):
        raise ValueError("a bug")

    monkeypatch.setattr(Scorer, "__call__", bug)
    with pytest.raises(ValueError, match="a bug"):
        thinkseg.main(words)


def test_help(capsys):
    assert run(["evaluate", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "a file of configs/data, or a class; required" in shown
    assert "threads; they help where PNGs are read" in shown


@pytest.mark.slow
def test_what_predict_wrote_has_the_numbers_of_test(tmp_path):
    shapes = str(tmp_path / "shapes")
    thinkseg.main(["data", "shapes", "--root", shapes, "--videos", "1", "--valid_videos", "2", "--preset", "easy"])
    answer = '<think>There.</think>\n<answer>{"keyframe_timestamp": 0, "bbox_2d_list": [[12, 20, 70, 66]]}</answer>'
    scripted = {"class_path": "ScriptedReasoner", "init_args": {"default": [answer]}}
    small = {
        "--trainer.accelerator": "cpu",
        "--trainer.callbacks": str(ROOT / "configs/trainer/callbacks.yaml"),
        "--trainer.default_root_dir": str(tmp_path / "run"),
        "--trainer.enable_progress_bar": "false",
        "--model.reasoner": json.dumps(scripted),
        "--model.dialogue.size": "112",
        "--model.segmenter": "StillSegmenter",
        "--data.num_workers": "0",
        "--data.val.root": shapes,
    }
    given = [word for pair in small.items() for word in pair]
    for command in ("test", "predict"):
        config = str(ROOT / "configs/veason_r1/eval.yaml")
        thinkseg.main([command, "-c", config, *given, f"--data.{command}.root", shapes])
    tested = json.loads((tmp_path / "run/test.json").read_text())
    dataset = ["--dataset", str(ROOT / "configs/data/shapes.yaml"), "--dataset.root", shapes]
    out = tmp_path / "out"
    predicted = ["--predictions", str(tmp_path / "run/predictions"), "--out", str(out)]
    assert run(["evaluate", *dataset, *predicted]) == 0
    evaluated = json.loads((out / "table.json").read_text())
    assert evaluated["setting"]["encoding"] == "palette"
    assert set(evaluated["table"]) == set(tested)
    for name, row in evaluated["table"].items():
        for measure, value in row.items():
            assert value == pytest.approx(tested[name][measure], abs=1e-9), (name, measure)
    assert 0 < evaluated["table"]["overall"]["J"] < 1


def test_official_takes_the_frames_of_groundmore_as_the_folder_lists_them(tmp_path, monkeypatch, capsys):
    """The published tool meets masks in the order of time with frames in the order of the folder."""
    root = write_groundmore(tmp_path / "groundmore", t=6)
    dataset = GroundMoRe(root, "test")
    record = dataset.index[0]
    masks = dataset.masks(record)
    for time, name in enumerate(record.frame_names):
        mask = Image.fromarray(255 * masks(time).any(dim=0).numpy().astype(np.uint8))
        path = tmp_path / "run" / record.video_id / record.expression_id / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path=".": sorted(listed(path), reverse=True))
    words = ["evaluate", "--dataset", "GroundMoRe", "--dataset.root", str(root), "--split", "test"]
    tables = []
    for rules in ([], ["--official"]):
        out = tmp_path / f"out{len(rules)}"
        assert run([*words, "--predictions", str(tmp_path / "run"), "--out", str(out), *rules]) == 0
        with (out / "rows.csv").open() as file:
            tables.append(next(iter(csv.DictReader(file))))
    ours, official = tables
    assert float(ours["J"]) == 1
    assert float(official["J"]) < 1
