"""The dialogue of Veason-R1: one question over labelled frames, one answer of a keyframe and boxes.

Structure of the prompt, reading and grading follow https://github.com/SitongGong/Veason-R1 (commit dde0d9b); the
wording is ours. The model answers on a square canvas, whatever the shape of the video::

    <think>…</think>
    <answer>{"keyframe_timestamp": 14, "bbox_2d_list": [[131.75, 78.28, 346.12, 459.39]]}</answer>
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor

from datamodules.canvas import from_canvas, to_canvas
from datamodules.structures import VideoSample
from dialogues.base import Dialogue
from dialogues.chat import Chat, Exact, Frame, Message, Text
from dialogues.episode import Answer
from dialogues.prompts import fill, load_prompts
from dialogues.scanner import adjoins, block, object_block, parse_json

#: Wording of each role. ``system`` is the sentence that Qwen2.5-VL's chat template puts first.
PROMPTS = {
    "system": "You are a helpful assistant.",
    "label": "({timestamp}s)",
    "separator": ", ",
    "frames": "These {num_frames} images are frames that were sampled uniformly from a video of 1 frame per second; "
    "the label in front of an image is its timestamp.",
    "question": "Which timestamp shows best what '{expression}' refers to, and where is it in that frame? Locate it "
    "with one bounding box, or with several if it consists of several objects.",
    "instruction": "Think first, inside <think> </think>. Then give the timestamp and the boxes inside "
    "<answer> </answer>, in the output format you know.",
}

#: What each role may hold in braces.
PLACEHOLDERS = {role: ("expression", "num_frames") for role in PROMPTS} | {"label": ("timestamp",), "separator": ()}

#: Most boxes of one answer that count (the published code's cap).
MAX_BOXES = 120

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


class VeasonR1(Dialogue):
    """Ask for the best frame and the boxes in it, as Veason-R1 does.

    The user message has four lines: every frame directly after its label; how many frames there are and what the labels
    mean; the expression, lower-cased and without the dots at its ends; where the reasoning and the answer go.

    Args:
        size: side in pixels of the square that frames are resized to.
        grid: range of the coordinates the model speaks, if it is not ``size``: 1000 for Qwen3-VL. On a grid coordinates
            are written as integers in ``[0, grid - 1]``, without one with two decimals.
        prompts: YAML file of the wording by role, all of those in `PROMPTS`; default: ours.
        timestamps: what labels and ``keyframe_timestamp`` count: positions of frames in the video, or, as the variant
            ``video_match_keyframe_sft_sam``, positions among the shown frames.
        released_boxes: which lists ``read(released=True)`` takes for boxes: those that make a numeric array (M, 4), as
            the matched rewards do, or those of four numbers each, bools and huge integers included, as the mask reward
            without matching does.

    Raises:
        ValueError: if ``size`` or ``grid`` is not positive, or the prompts do not have exactly the roles.
    """

    paper = "Gong et al., *Reinforcing Video Reasoning Segmentation to Think Before It Segments* (Veason-R1), CVPR 2026"

    def __init__(
        self,
        size: int = 560,
        grid: int | None = None,
        prompts: Path | None = None,
        timestamps: Literal["frame_ids", "ordinals"] = "frame_ids",
        released_boxes: Literal["array", "items"] = "array",
    ) -> None:
        if size < 1:
            raise ValueError(f"Expected `size` to be at least 1 pixel, but got {size}")
        if grid is not None and grid < 2:
            raise ValueError(f"Expected `grid` to be at least 2, but got {grid}")
        self.size = size
        self.grid = grid
        self.prompts = PROMPTS if prompts is None else load_prompts(prompts, PLACEHOLDERS, ("expression", "timestamp"))
        self.timestamps = timestamps
        self.released_boxes = released_boxes

    @property
    def canvas(self) -> int:
        """Side of the canvas that coordinates refer to."""
        return self.size if self.grid is None else self.grid

    def ask(self, sample: VideoSample, shown: Sequence[int]) -> Chat:
        """Return the chat that asks for ``sample.expression`` and shows the frames at the time indices ``shown``."""
        if not shown:
            raise ValueError(f"Expected at least one frame to show for {sample.key!r}, but got none")
        stamps = [sample.frame_ids[time] for time in shown] if self.timestamps == "frame_ids" else range(len(shown))
        content: list[Frame | Text] = []
        for time, stamp in zip(shown, stamps, strict=True):
            if content and self.prompts["separator"]:
                content.append(Text(self.prompts["separator"], "separator"))
            content.append(Text(fill(self.prompts["label"], timestamp=stamp), "label"))
            content.append(Frame(time, Exact(self.size, self.size)))
        lead = " \n"  # the released prompt has a blank before the first newline
        for role in ("frames", "question", "instruction"):
            if wording := self._worded(role, sample, len(shown)):
                content += [Text(lead, "separator"), Text(wording, role)]
                lead = "\n"
        messages = [Message("user", tuple(content))]
        if system := self._worded("system", sample, len(shown)):
            messages.insert(0, Message("system", (Text(system, "system"),)))
        return Chat(tuple(messages), sample.size, tuple(sample.frame_ids), tuple(shown))

    def _worded(self, role: str, sample: VideoSample, num_frames: int) -> str:
        return fill(self.prompts[role], num_frames=num_frames, expression=sample.expression.lower().strip("."))

    def read(self, text: str, chat: Chat, released: bool = False) -> Answer:
        """Read a completion; total, and linear in its length.

        ``form`` has two parts. ``think`` is 1 if the text is a thought and an answer in their tags, each once, with
        nothing but white space around them. ``json`` is the share of valid boxes in a well-formed answer.
        A valid box is a list of four finite numbers with ``x1 < x2`` and ``y1 < y2`` that meets the frame (so neither
        bools nor the ``[0, 0, 0, 0]`` that the paper uses for absent objects), among the first `MAX_BOXES`. Only valid
        boxes are in the answer, clipped to the frame. A keyframe that was not shown is none.

        Args:
            text: what the reasoner wrote, without special tokens.
            chat: what it was asked.
            released: read and grade as the published code did: text around the tags is never tolerated, repeated tags
                always; anything Python calls a number is one, in the graded items and, if the whole list is numeric, in
                the boxes, which are neither checked nor clipped; timestamps are converted to integers.

        Returns:
            The answer in canonical units.
        """
        found = block(text, "think")
        thinking = "" if found is None else text[found.start : found.end]
        if released:
            return self._read_released(text, chat, thinking)
        # An answer that the thought only talks about is no answer.
        value = _answer(text, max(text.find("</think>"), 0))
        stamp, items = value.get("keyframe_timestamp"), value.get("bbox_2d_list")
        if not isinstance(items, list):
            items = []
        boxes = self._valid(items[:MAX_BOXES], chat)
        share = len(boxes) / len(items) if items and _is_integer(stamp) else 0.0
        form = {"think": _think_form(text), "json": share}
        return Answer(thinking, self._time(stamp, chat), boxes, form)

    def _valid(self, items: list[Any], chat: Chat) -> Tensor:
        """Return the boxes of which something is left inside the frame, and only that."""
        finite = [[float(number) for number in item] for item in items if _is_four_numbers(item)]
        on_canvas = torch.tensor(finite, dtype=torch.float64).reshape(-1, 4)
        height, width = chat.size
        limit = torch.tensor([width, height, width, height], dtype=torch.float64)
        boxes = from_canvas(on_canvas, chat.size, self.canvas).clamp(min=0).minimum(limit)
        # Equal edges name one pixel in the paper's convention, but so does the dummy of an absent object.
        return boxes[((on_canvas[:, 2:] > on_canvas[:, :2]) & (boxes[:, 2:] > boxes[:, :2])).all(dim=1)]

    def _time(self, stamp: Any, chat: Chat) -> int | None:
        """Return the time index that a timestamp names, the first if several do, None if it was not shown."""
        if not _is_integer(stamp):
            return None
        if self.timestamps == "ordinals":
            return chat.shown[stamp] if 0 <= stamp < len(chat.shown) else None
        return next((time for time in chat.shown if chat.frame_ids[time] == stamp), None)

    def _read_released(self, text: str, chat: Chat, thinking: str) -> Answer:
        value = _answer(text, 0)
        items = value.get("bbox_2d_list")
        rows = _released_rows(items[:MAX_BOXES], self.released_boxes) if isinstance(items, list) else []
        boxes = from_canvas(torch.tensor(rows, dtype=torch.float64).reshape(-1, 4), chat.size, self.canvas)
        keyframe = self._time(_released_integer(value.get("keyframe_timestamp", -1)), chat)
        form = {"think": _released_think_form(text), "json": _released_json_form(text)}
        return Answer(thinking, keyframe, boxes, form)

    def write(self, answer: Answer, chat: Chat) -> str:
        """Return the text that ``read`` reads as ``answer``, up to the decimals it writes.

        Raises:
            ValueError: if the keyframe was not shown, or the thought holds a tag, so that no text could say it.
        """
        if answer.keyframe not in chat.shown:
            raise ValueError(f"Expected a keyframe among the shown {list(chat.shown)}, but got {answer.keyframe}")
        if tag := next(
            (tag for tag in ("<think>", "</think>", "<answer>", "</answer>") if tag in answer.thinking), None
        ):
            raise ValueError(f"Expected a thought without tags, but got {tag!r} in {answer.thinking[:200]!r}")
        by_id = self.timestamps == "frame_ids"
        stamp = chat.frame_ids[answer.keyframe] if by_id else chat.shown.index(answer.keyframe)
        boxes = [self._written(box) for box in to_canvas(answer.boxes, chat.size, self.canvas).tolist()]
        value = {"keyframe_timestamp": stamp, "bbox_2d_list": boxes}
        return f"<think>{answer.thinking}</think>\n<answer>{json.dumps(value)}</answer>"

    def _written(self, box: list[float]) -> list[float]:
        (x1, x2), (y1, y2) = self._edges(box[0], box[2]), self._edges(box[1], box[3])
        return [x1, y1, x2, y2]

    def _edges(self, first: float, last: float) -> tuple[float, float]:
        """Round two edges so that something is left between them: on the canvas those of one pixel are equal."""
        if self.grid is None:
            first = round(first, 2)
            return first, max(round(last, 2), round(first + 0.01, 2))
        first = min(max(round(first), 0), self.grid - 2)
        return first, min(max(round(last), first + 1), self.grid - 1)


def _answer(text: str, start: int) -> dict[str, Any]:
    """Return the JSON object in the first answer block from ``start`` on, an empty one if there is none."""
    content = block(text, "answer", start)
    value = parse_json(text[content.start : content.end].strip()) if content else None
    return value if isinstance(value, dict) else {}


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_four_numbers(item: Any) -> bool:
    """Tell whether an item is a list of four finite numbers; a bool is none, nor is an integer no double can hold."""
    return isinstance(item, list) and len(item) == 4 and all(_is_finite_number(value) for value in item)


def _is_finite_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(_double(value))


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _think_form(text: str) -> float:
    """Grade the outer form: one thought, one answer, nothing else."""
    once = all(text.count(tag) == 1 for tag in _TAGS)
    return _released_think_form(text.strip()) if once else 0.0


def _released_think_form(text: str) -> float:
    kept = text.startswith("<think>") and text.endswith("</answer>")
    return float(kept and adjoins(text, "</think>", "<answer>", len("<think>"), len(text) - len("</answer>")))


def _released_json_form(text: str) -> float:
    """Grade the JSON as the published code: its search for an object runs past answers that are none."""
    content = object_block(text, "answer")
    value = parse_json(text[content.start : content.end]) if content else None
    if not isinstance(value, dict) or not isinstance(value.get("keyframe_timestamp"), int):
        return 0.0
    items = value.get("bbox_2d_list")
    if not isinstance(items, list):
        return 0.0
    score = 0.0
    for item in items:  # summed one by one, as published: 121 times 1/121 is 0.9999999999999976
        if isinstance(item, list) and len(item) == 4 and all(isinstance(number, int | float) for number in item):
            score += 1.0 / len(items)
    return score


def _released_integer(value: Any) -> int | None:
    """Convert as Python's ``int``: 14.9 and "14" are 14, False is 0."""
    if not isinstance(value, int | float | str):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):  # no digits, NaN; infinity
        return None


def _released_rows(items: list[Any], rule: str) -> list[list[float]]:
    """Return the boxes of a list as the published code: all of them, or none."""
    if not all(isinstance(item, list) and len(item) == 4 for item in items):
        return []
    numbers = [number for item in items for number in item]
    if not all(isinstance(number, int | float) for number in numbers):
        return []
    if rule == "array":
        # NumPy makes an array of bools, which cannot be subtracted, or of objects, which cannot be matched.
        if all(isinstance(number, bool) for number in numbers):
            return []
        if any(isinstance(number, int) and not -(2**63) <= number < 2**64 for number in numbers):
            return []
    return [[_double(number) for number in item] for item in items]
