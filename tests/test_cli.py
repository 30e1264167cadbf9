"""The command line, in process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
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


@pytest.mark.parametrize(
    ("word", "content", "message"),
    [
        ("name", "{}", "expected NAME=FILE"),
        ("name=missing.json", "{}", "no such file"),
        ("name=results.json", "[1, 2]", "expected results.json to map groups to measures"),
        ("name=results.json", '{"J": 0.5}', "expected results.json to map groups to measures"),
        ("name=results.json", "{", "expected results.json to hold JSON"),
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
