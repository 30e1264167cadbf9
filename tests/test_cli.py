"""The command line, in process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import thinkseg

ROOT = Path(__file__).parent.parent
RESULTS = {
    "referring": {"J": 0.5, "F": 0.25, "JF": 0.375, "R": 1.0, "reward": 1.25},
    "overall": {"J": 0.1, "F": 0.2, "JF": 0.15, "R": None},
}


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    thinkseg.main(["--help"])
    shown = capsys.readouterr().out
    for command, what in thinkseg.COMMANDS.items():
        assert f"  {command} " in shown
        assert what in shown


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, thinkseg; thinkseg.main(['--help']); print(sorted({'torch', 'lightning'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [["train"], ["data", "unknown"], ["compare"], ["compare", "--", "file.json"]])
def test_wrong_words_exit(words: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        thinkseg.main(words)
    assert error.value.code not in (0, None)


def test_compare_prints_a_row_per_group_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(RESULTS))
    (tmp_path / "b.json").write_text(json.dumps({"overall": RESULTS["overall"]}))
    out = tmp_path / "made" / "summary.json"
    thinkseg.main(["compare", f"sft={tmp_path / 'a.json'}", f"grpo={tmp_path / 'b.json'}", "--out", str(out)])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["run", "queries", "J", "F", "J&F", "R", "reward"]
    assert rows[2:] == [
        ["sft", "referring", "50.0", "25.0", "37.5", "100.0", "1.250"],
        ["sft", "overall", "10.0", "20.0", "15.0", "–", "–"],
        ["grpo", "overall", "10.0", "20.0", "15.0", "–", "–"],
    ]
    assert json.loads(out.read_text()) == {"sft": RESULTS, "grpo": {"overall": RESULTS["overall"]}}


def test_compare_takes_any_measures_and_what_evaluate_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"setting": {"split": "valid"}, "table": {"overall": {"new": 0.5}}}))
    (tmp_path / "b.json").write_text(json.dumps({"overall": {"JF": 0.25, "other": None}}))
    thinkseg.main(["compare", f"a={tmp_path / 'a.json'}", f"b={tmp_path / 'b.json'}"])
    assert capsys.readouterr().out.splitlines() == [
        "| run | queries |  J&F |  new | other |",
        "|-----|---------|-----:|-----:|------:|",
        "| a   | overall |    – | 50.0 |     – |",
        "| b   | overall | 25.0 |    – |     – |",
    ]


@pytest.mark.parametrize(
    ("word", "content", "message"),
    [
        ("name", "{}", "expected NAME=FILE"),
        ("name=missing.json", "{}", "no such file"),
        ("name=results.json", "[1, 2]", "expected results.json to map groups to measures"),
        ("name=results.json", '{"J": 0.5}', "expected results.json to map groups to measures"),
        ("name=results.json", '{"overall": {"J": "high"}}', "expected results.json to map groups to measures"),
        ("name=results.json", '{"setting": {}}', "expected results.json to map groups to measures"),
        ("name=results.json", "{", "expected results.json to hold JSON"),
        ("name=results.json", "[" * 100_000, "expected results.json to hold JSON"),
        ("name=results.json", '{"overall": {"J": true}}', "expected results.json to map groups to measures"),
        ("name=results.json", '{"overall": {"J": 1%s}}' % ("0" * 400), "expected results.json to map groups"),
    ],
)
def test_compare_names_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, content: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results.json").write_text(content)
    with pytest.raises(SystemExit, match=message):
        thinkseg.main(["compare", word])


def test_model_opens_in_plain_transformers(tmp_path: Path) -> None:
    config = tmp_path / "model.yaml"
    config.write_text("hidden_size: 32\nnum_layers: 1\nvision_depth: 1\nseed: 3\n")
    thinkseg.main(["model", "--config", str(config), "--num_heads", "2", "--out", str(tmp_path / "a")])
    thinkseg.main(["model", "--config", str(config), "--num_heads", "2", "--out", str(tmp_path / "b")])
    first = AutoModelForImageTextToText.from_pretrained(tmp_path / "a")
    second = AutoModelForImageTextToText.from_pretrained(tmp_path / "b")
    assert first.config.text_config.hidden_size == 32
    assert first.config.text_config.num_attention_heads == 2
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_data_shapes_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "shapes"
    thinkseg.main(["data", "shapes", "--root", str(root), "--videos", "2", "--valid_videos", "1", "--seed", "5"])
    assert json.loads(capsys.readouterr().out)["train/videos"] == 2
    words = ["data", "check", "--dataset", str(ROOT / "configs/data/shapes.yaml"), "--dataset.root", str(root)]
    with pytest.raises(SystemExit) as whole:
        thinkseg.main(words)
    assert whole.value.code == 0
    frame = sorted(root.rglob("*.jpg"))[0]
    frame.write_bytes(b"no picture")
    with pytest.raises(SystemExit) as broken:
        thinkseg.main([*words, "--dataset.split", "train"])
    assert broken.value.code == 1
    assert str(frame.relative_to(root)) in capsys.readouterr().out


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy benchmark and a random reasoner."""
    folder = tmp_path_factory.mktemp("toy")
    words = ["--videos", "2", "--valid_videos", "1", "--preset", "easy"]
    thinkseg.main(["data", "shapes", "--root", str(folder / "shapes"), *words])
    sizes = ["--hidden_size", "32", "--num_layers", "1", "--vision_depth", "1", "--num_heads", "2"]
    thinkseg.main(["model", *sizes, "--out", str(folder / "untrained")])
    return folder


def run(command: str, config: str, toy: Path, out: str, start: str, *words: str) -> Path:
    """Run one stage of Veason-R1 as its configuration says, small enough for a CPU, and return its folder."""
    shapes = str(toy / "shapes")
    small = {
        "--trainer.accelerator": "cpu",
        "--trainer.callbacks": str(ROOT / "configs/trainer/callbacks.yaml"),
        "--trainer.default_root_dir": str(toy / out),
        "--trainer.limit_val_batches": "2",
        "--trainer.num_sanity_val_steps": "0",
        "--trainer.enable_progress_bar": "false",
        "--model.reasoner.pretrained": str(toy / start),
        "--model.reasoner.dtype": "float32",
        "--model.dialogue.size": "112",
        "--model.segmenter": "StillSegmenter",
        "--model.max_completion_length": "8",
        "--data.num_workers": "0",
        "--data.val.root": shapes,
    }
    given = [word for pair in small.items() for word in pair]
    thinkseg.main([command, "-c", str(ROOT / "configs/veason_r1" / config), *given, *words])
    return toy / out


@pytest.mark.slow
def test_veason_r1_end_to_end(toy: Path) -> None:
    shapes = str(toy / "shapes")
    steps = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--data.batch_size", "2"]
    sft = run("fit", "sft.yaml", toy, "sft", "untrained", "--data.train.dataset.root", shapes, *steps)
    grpo = run("fit", "grpo.yaml", toy, "grpo", "sft/hf", "--data.train.root", shapes, *steps)
    for folder in (sft, grpo):
        names = {path.name for path in (folder / "checkpoints").iterdir()}
        assert names == {"best.ckpt", "step-00000002.ckpt"}
        assert list(folder.glob("events.out.tfevents.*"))
        saved = yaml.safe_load((folder / "fit.yaml").read_text())
        assert saved["model"]["init_args"]["dialogue"]["init_args"]["size"] == 112
    assert list((grpo / "rollouts").glob("train-*.jsonl"))
    before, after = (load_file(folder / "model.safetensors") for folder in (toy / "untrained", sft / "hf"))
    assert any(not torch.equal(weight, after[name]) for name, weight in before.items())

    take_away = ["export", "--checkpoint", str(sft / "checkpoints/best.ckpt"), "--out"]
    thinkseg.main([*take_away, str(toy / "taken")])
    assert (toy / "taken/model.safetensors").read_bytes() == (sft / "hf/model.safetensors").read_bytes()
    thinkseg.main([*take_away, str(toy / "adapters"), "--adapters_only"])
    lora = ["--model.reasoner.lora.adapters", str(toy / "adapters")]
    on = run("fit", "grpo.yaml", toy, "on", "untrained", "--data.train.root", shapes, *steps, *lora)
    for name, weight in load_file(on / "hf/model.safetensors").items():
        assert torch.allclose(weight, after[name], atol=1e-4), name  # two steps of 1e-6 from where SFT ended

    tested = run("test", "eval.yaml", toy, "eval", "grpo/hf", "--data.test.root", shapes)
    assert {"J", "F", "JF", "R", "reward"} <= json.loads((tested / "test.json").read_text())["overall"].keys()
    run("predict", "eval.yaml", toy, "eval", "grpo/hf", "--data.predict.root", shapes)
    frames = list((toy / "shapes/JPEGImages").rglob("valid/**/*.jpg"))
    assert {path.stem for path in (tested / "predictions/masks").rglob("*.png")} == {path.stem for path in frames}
    assert {path.name for path in tested.glob("*.yaml")} >= {"test.yaml", "predict.yaml"}


@pytest.mark.slow
def test_a_finished_run_goes_on_to_more_steps(toy: Path) -> None:
    words = ["--data.train.dataset.root", str(toy / "shapes"), "--data.batch_size", "1"]
    words += ["--trainer.val_check_interval", "2"]
    whole = run("fit", "sft.yaml", toy, "whole", "untrained", *words, "--trainer.max_steps", "4")
    run("fit", "sft.yaml", toy, "parts", "untrained", *words, "--trainer.max_steps", "2")
    last = ["--ckpt_path", "last"]
    parts = run("fit", "sft.yaml", toy, "parts", "untrained", *words, "--trainer.max_steps", "4", *last)
    expected, got = (load_file(folder / "hf/model.safetensors") for folder in (whole, parts))
    for name, weight in expected.items():
        assert torch.equal(got[name], weight), name


def test_a_checkpoint_that_is_a_pickle_is_refused(toy: Path) -> None:
    torch.save({"state_dict": {}, "code": Path("x")}, toy / "evil.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        run(
            "test",
            "eval.yaml",
            toy,
            "eval",
            "untrained",
            "--data.test.root",
            str(toy / "shapes"),
            "--ckpt_path",
            str(toy / "evil.ckpt"),
        )


def test_compare_wants_a_name_for_each_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(RESULTS))
    with pytest.raises(SystemExit, match=r"expected a name for each file, but got \['a', 'a'\]"):
        thinkseg.main(["compare", f"a={tmp_path / 'a.json'}", f"a={tmp_path / 'a.json'}"])


def test_compare_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"\x1b[2J\ud800\n": {"J": 0.5}}))
    thinkseg.main(["compare", f"a={tmp_path / 'a.json'}"])
    assert "| a   | ?[2J??" in capsys.readouterr().out
