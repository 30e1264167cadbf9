"""`make demo`, cut short: every stage with its own configuration, a few steps each."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

import thinkseg

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "configs/demo"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "demo"
    words = ["--preset", "easy", "--objects", "2", "--videos", "4", "--valid_videos", "2"]
    thinkseg.main(["data", "shapes", "--root", str(root), *words])
    return root


def stage(command: str, run: Path, start: Path, data: Path, *words: str) -> None:
    """One line of the Makefile's recipe, smaller."""
    small = {
        "--trainer.default_root_dir": str(run),
        "--model.reasoner.pretrained": str(start),
        "--data.val.root": str(data),
        "--data.test.root": str(data),
        "--data.num_workers": "0",
        "--trainer.limit_val_batches": "1",
        "--trainer.limit_test_batches": "1",
        "--data.eval_batch_size": "3",
        "--trainer.enable_progress_bar": "false",
    }
    given = [word for pair in small.items() for word in pair]
    thinkseg.main([command, "-c", str(DEMO / "base.yaml"), *words[:2], *given, *words[2:]])


@pytest.mark.slow
def test_the_demo_cut_short(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = {name: tmp_path / name for name in ("untrained", "sft", "grpo")}
    thinkseg.main(["model", "-c", str(DEMO / "model.yaml"), "--out", str(runs["untrained"] / "hf")])
    stage("test", runs["untrained"], runs["untrained"] / "hf", data)
    short = ("--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--data.batch_size", "2")
    conversations = ("--data.train.dataset.root", str(data))
    stage("fit", runs["sft"], ROOT / "assets/warm_start/hf", data, "-c", str(DEMO / "sft.yaml"), *short, *conversations)
    stage("test", runs["sft"], runs["sft"] / "hf", data)
    videos = ("--data.train.root", str(data))
    stage("fit", runs["grpo"], runs["sft"] / "hf", data, "-c", str(DEMO / "grpo.yaml"), *short, *videos)
    stage("test", runs["grpo"], runs["grpo"] / "hf", data)

    summary = tmp_path / "summary.json"
    thinkseg.main(["compare", *(f"{name}={run / 'test.json'}" for name, run in runs.items()), "--out", str(summary)])
    results = json.loads(summary.read_text())
    assert results.keys() == runs.keys()
    for rows in results.values():
        assert {"J", "F", "JF", "A", "R", "R_255", "hallucination", "reward"} <= rows["overall"].keys()
        assert all(0 <= rows["overall"][name] <= 1 for name in ("J", "F", "JF", "R"))
    for run in (runs["sft"], runs["grpo"]):
        assert AutoModelForImageTextToText.from_pretrained(run / "hf").num_parameters() < 1_100_000
        assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "step-00000002.ckpt"}
        assert list(run.glob("events.out.tfevents.*"))
    assert list((runs["grpo"] / "pictures").iterdir())
    assert list((runs["grpo"] / "rollouts").glob("train-*.jsonl"))


@pytest.mark.slow
def test_a_small_sam2_goes_through_the_same_job(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sam2 = ("--model.segmenter", str(DEMO / "sam2_tiny.yaml"))
    stage("test", tmp_path / "run", ROOT / "assets/warm_start/hf", data, *sam2)
    assert 0 <= json.loads((tmp_path / "run/test.json").read_text())["overall"]["J"] <= 1


def test_the_warm_start_is_small() -> None:
    size = sum(path.stat().st_size for path in (ROOT / "assets/warm_start").rglob("*") if path.is_file())
    assert size <= 4_000_000
