"""The README.md of an exported folder."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dialogues import VeasonR1
from lightning_modules.model_card import Source, hub_name, model_card

ROOT = Path(__file__).parents[2]
SOURCE = Source("GRPOModule", VeasonR1(), "runs/grpo/checkpoints/best.ckpt", 7, Path("runs/grpo/fit.yaml"))


def head(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize("adapters_only", [False, True])
def test_the_card_says_what_the_folder_is(adapters_only):
    card = model_card(SOURCE, "Qwen/Qwen2.5-VL-3B-Instruct", "bfloat16", adapters_only, Path("runs/grpo/out"))
    assert head(card)["base_model"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert head(card)["library_name"] == ("peft" if adapters_only else "transformers")
    assert head(card)["pipeline_tag"] == "image-text-to-text"
    assert "thinkseg" in head(card)["tags"]
    for fact in ("GRPOModule", "VeasonR1", "runs/grpo/fit.yaml", "runs/grpo/checkpoints/best.ckpt", "| step | 7 |"):
        assert fact in card
    assert "| weights | bfloat16 |" in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names = {node.id for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Name)}
        assert ("PeftModel" in names or "LoRA" in names) == adapters_only
        assert '"runs/grpo/out"' in block


def test_the_card_cites_the_paper_of_the_dialogue_and_of_the_stage():
    card = model_card(SOURCE, "", "float32", False, Path("out"))
    titles = [paper["title"] for paper in yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]]
    assert [title in card for title in titles] == [True, False, False]
    assert "2402.03300" in card
    assert "2402.03300" not in model_card(replace(SOURCE, stage="SFTModule"), "", "float32", False, Path("out"))


def test_the_base_is_known_through_the_stages(tmp_path):
    first = model_card(SOURCE, "Qwen/Qwen3-VL-2B-Instruct", "bfloat16", False, tmp_path)
    (tmp_path / "README.md").write_text(first)
    assert hub_name(str(tmp_path)) == "Qwen/Qwen3-VL-2B-Instruct"
    assert head(model_card(SOURCE, str(tmp_path), "bfloat16", False, Path("out"))) == head(first)
    (tmp_path / "README.md").write_text("# A folder\n---\nname: nobody\n---\n")
    assert hub_name(str(tmp_path)) is None
    assert "base_model" not in head(model_card(SOURCE, str(tmp_path), "bfloat16", False, Path("out")))
