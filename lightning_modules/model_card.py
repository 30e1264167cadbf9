"""The README.md of an exported folder: what it is, where it comes from, how it is opened, what to cite."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dialogues.base import Dialogue

#: Stage -> how it is called, and what it asks to be cited.
STAGES = {
    "SFTModule": ("supervised fine-tuning on chains of thought", None),
    "GRPOModule": (
        "group relative policy optimisation",
        "Shao et al., *DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models* (GRPO), "
        "arXiv 2402.03300",
    ),
}
_FENCE = "---\n"


@dataclass
class Source:
    """Where exported weights come from.

    Args:
        stage: name of the module that trained them.
        dialogue: what the reasoner was asked in.
        checkpoint: file or folder of the weights, or words for them.
        step: optimiser steps until then; None if the checkpoint does not say.
        configuration: of the run, if there is a file.
    """

    stage: str
    dialogue: Dialogue
    checkpoint: str
    step: int | None = None
    configuration: Path | None = None


def model_card(source: Source, pretrained: str, dtype: str, adapters_only: bool, folder: Path) -> str:
    """Return the card as Markdown with a YAML head, as the Hugging Face hub reads it.

    Args:
        source: where the weights come from.
        pretrained: what training started from.
        dtype: of the weights.
        adapters_only: whether the folder holds adapters for ``pretrained`` and no weights.
        folder: where the card will lie.
    """
    head: dict[str, Any] = {
        "library_name": "peft" if adapters_only else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["thinkseg", "reasoning-video-object-segmentation", "video-object-segmentation"],
    }
    base = hub_name(pretrained)
    if base is not None:
        head = {"base_model": base, **head}
    parts = [
        f"# {type(source.dialogue).__name__}, {_stage(source)[0]}",
        _what(source, pretrained, dtype, adapters_only),
        "## Opening it",
        _opening(source, pretrained, adapters_only, folder),
        "## Citing it",
        _citing(source, base),
    ]
    return f"{_FENCE}{yaml.safe_dump(head, sort_keys=False)}{_FENCE}\n" + "\n\n".join(parts) + "\n"


def hub_name(pretrained: str) -> str | None:
    """Return the name on the hub that ``pretrained`` is or descends from, by the cards on the way; None if unknown."""
    if not Path(pretrained).is_dir():
        return pretrained or None
    card = Path(pretrained) / "README.md"
    parts = card.read_text(encoding="utf-8").split(_FENCE) if card.is_file() else []
    head = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0] else None
    name = head.get("base_model") if isinstance(head, dict) else None
    return name if isinstance(name, str) else None


def _what(source: Source, pretrained: str, dtype: str, adapters_only: bool) -> str:
    kind = f"Low-rank adapters for `{pretrained}`" if adapters_only else "A vision-language model"
    facts = {
        "stage": f"{_stage(source)[0]} (`{source.stage}`)",
        "started from": f"`{pretrained}`",
        "asked and read by": f"`{type(source.dialogue).__name__}`",
        "configuration": None if source.configuration is None else f"`{source.configuration}`",
        "checkpoint": f"`{source.checkpoint}`",
        "step": source.step,
        "weights": dtype,
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value is not None]
    return (
        f"{kind} for reasoning video object segmentation, trained with thinkseg. It sees frames of a video and a "
        "sentence, thinks, and names a frame and the boxes of the objects that are meant; a segmenter such as SAM 2, "
        "which is not in this folder, turns those into a mask for every frame.\n\n| | |\n|---|---|\n" + "\n".join(rows)
    )


def _opening(source: Source, pretrained: str, adapters_only: bool, folder: Path) -> str:
    weights = pretrained if adapters_only else str(folder)
    plain = [
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        f'model = AutoModelForImageTextToText.from_pretrained("{weights}", dtype="auto")',
        f'processor = AutoProcessor.from_pretrained("{weights}")',
    ]
    reasoner = ["from models.reasoners import QwenVL", "", f'reasoner = QwenVL("{weights}")', "reasoner.configure()"]
    if adapters_only:
        plain = ["from peft import PeftModel", *plain, f'model = PeftModel.from_pretrained(model, "{folder}")']
        reasoner[0] = "from models.reasoners import LoRA, QwenVL"
        reasoner[2] = f'reasoner = QwenVL("{weights}", lora=LoRA(adapters="{folder}"))'
    return (
        f"Without thinkseg:\n\n{_python(plain)}\n\nIn thinkseg, whose `{type(source.dialogue).__name__}` words the "
        f"question as in training and reads the answer:\n\n{_python(reasoner)}"
    )


def _python(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _citing(source: Source, base: str | None) -> str:
    base_paper = None if base is None else f"What <https://huggingface.co/{base}> asks to be cited"
    papers = [source.dialogue.paper, _stage(source)[1], base_paper, "thinkseg, by its CITATION.cff"]
    return "\n".join(f"- {paper}" for paper in papers if paper)


def _stage(source: Source) -> tuple[str, str | None]:
    return STAGES.get(source.stage, (source.stage, None))
