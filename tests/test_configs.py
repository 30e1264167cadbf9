"""Every configuration parses, whole and in process, without a model being built."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

import thinkseg
from commands.data import data_parser
from commands.model import model_parser
from dialogues import VeasonR1
from models.segmenters.base import Segmenter

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
#: A trainer's file is half a run; this is the other half.
RUN = ROOT / "configs" / "veason_r1" / "grpo.yaml"
ENGINE = ROOT / "configs" / "trainer" / "one_gpu.yaml"


def name_of(config: Path) -> str:
    return str(config.relative_to(ROOT / "configs"))


def resolved(
    command: str, *configs: Path, words: Sequence[str] = (), capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """What `thinkseg COMMAND -c FILE … WORDS --print_config` says."""
    return resolved_words([command, *(word for config in configs for word in ("-c", str(config))), *words], capsys)


def resolved_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `thinkseg WORDS --print_config` says."""
    with pytest.raises(SystemExit) as done:
        thinkseg.main([*words, "--print_config"])
    shown = capsys.readouterr()
    assert done.value.code == 0, shown.err
    return yaml.safe_load(shown.out)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_parses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = yaml.safe_load(config.read_text())
    base = config.with_name("base.yaml")
    if config.name == "model.yaml":
        model_parser().parse_args(["--config", str(config), "--out", "folder"])
    elif config.name == "prompts.yaml":
        VeasonR1(prompts=config)
    elif config.parent.name == "data":
        parsed = data_parser().parse_args(["check", "--dataset", str(config)])
        assert parsed.check.dataset.init_args.root == given["init_args"]["root"]
    elif isinstance(given, list):  # callbacks, which trainer files name
        assert f"callbacks: {config.name}" in ENGINE.read_text()
    elif "class_path" in given:
        parser = ArgumentParser()
        parser.add_subclass_arguments(Segmenter, "segmenter")
        parser.parse_args(["--segmenter", str(config)])
    elif config.parent.name == "sweep":  # an overlay over what its job trains
        assert resolved("fit", RUN, config, capsys=capsys) != resolved("fit", RUN, capsys=capsys)
    elif "model" not in given:
        run = resolved("fit", config, RUN, capsys=capsys)
        assert given["trainer"].keys() <= run["trainer"].keys()
    else:
        named = given["model"].get("class_path", "")
        below = [base] if base.exists() and base != config else []
        below += [] if named else [config.with_name("sft.yaml")]  # a variation of supervised training
        for command in ("validate", "test", "predict") if named.endswith("SegmentationModule") else ("fit",):
            run = resolved(command, *below, config, capsys=capsys)
            assert run["model"]["class_path"].endswith(named)
            assert run["data"]["class_path"].endswith("VideoDataModule")


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_first_line_says_what_it_is(config: Path) -> None:
    assert config.read_text().startswith("# ")


def test_released_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    run = resolved("fit", ENGINE, RUN, capsys=capsys)
    model, data = run["model"]["init_args"], run["data"]["init_args"]
    assert (data["batch_size"], model["num_generations"], model["max_completion_length"]) == (16, 8, 1024)
    assert (model["loss"]["beta"], model["loss"]["entropy_coef"], model["advantage_eps"]) == (5e-3, 1e-3, 1e-6)
    assert (model["optimizer"]["learning_rate"], model["optimizer"]["weight_decay"]) == (1e-6, 1e-2)
    assert run["trainer"]["max_steps"] == 624
    assert run["trainer"]["logger"]["init_args"]["save_dir"] == run["trainer"]["default_root_dir"]


def test_an_original_checkpoint_of_sam2_keeps_the_precision(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = ROOT / "configs" / "veason_r1" / "eval.yaml"
    named = "--model.segmenter SAM2PackageSegmenter --model.segmenter.checkpoint sam2.1_hiera_large.pt"
    assert named in evaluation.read_text()
    segmenter = resolved("test", ENGINE, evaluation, words=named.split(), capsys=capsys)["model"]["init_args"][
        "segmenter"
    ]
    assert segmenter["class_path"] == "models.segmenters.SAM2PackageSegmenter"
    assert segmenter["init_args"]["checkpoint"] == "sam2.1_hiera_large.pt"
    assert segmenter["init_args"]["dtype"] == "bfloat16"
