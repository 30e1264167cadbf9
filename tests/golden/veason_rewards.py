"""Runner of ``veason_rewards``: the rewards of Veason-R1 on scripted completions, SAM2 replaced by a box painter."""

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.canvas import to_canvas
from datamodules.structures import LazyStack, VideoSample
from dialogues import VeasonR1
from dialogues.episode import Completion, Episode, Turn
from models.segmenters.base import Prompt, Segmenter
from rewards import BoxIoU, Form, KeyframeArea, MaskConsistency, Reward, RewardCollection
from rewards.functional import box_iou, match, resize_nearest
from rewards.spatial import canvas_slots, match_boxes
from tests.golden import Report, sections

KIND = "veason_rewards"
CANVAS = 560

#: the parts of each published variant; all weights are 1. ``external`` is the consistency of all boxes.
VARIANTS = {
    "ablation_keyframe_sft_sam_mod_compute_score": ("form", "keyframe", "spatial"),
    "ablation_keyframe_sft_only_sam": ("form", "keyframe", "consistency"),
    "ablation_no_keyframe_reward": ("form", "spatial", "consistency"),
    "ablation_keyframe_sft_only_external": ("form", "keyframe", "external"),
    "video_match_keyframe_sft_external": ("form", "keyframe", "spatial", "external"),
    "video_match_keyframe_sft_sam": ("form", "keyframe", "spatial", "consistency"),
}
ORDINAL_VARIANTS = frozenset({"video_match_keyframe_sft_sam"})


class SegmentationError(RuntimeError):
    """What the painter raises where the published worker returns nothing."""


class BoxPainter(Segmenter):
    """Paint every box into every frame of a square canvas, as the file's ``fake_sam2_rule`` says.

    Args:
        mode: ``fill`` paints the same rectangle in every frame, ``shift`` moves it, ``none`` fails.
    """

    def __init__(self, mode: str) -> None:
        if mode not in ("fill", "shift", "none"):
            raise ValueError(f"Expected `mode` to be 'fill', 'shift' or 'none', but got {mode!r}")
        self.mode = mode

    def __call__(self, frames: Tensor, prompts: Sequence[Prompt], segment_frames: Sequence[int]) -> list[Tensor]:
        size = int(frames.shape[-2]), int(frames.shape[-1])
        return [self._paint(to_canvas(prompt.boxes, size, CANVAS), prompt.frame, segment_frames) for prompt in prompts]

    def _paint(self, boxes: Tensor, keyframe: int, times: Sequence[int]) -> Tensor:
        # The way to pixels and back leaves 1e-17 of a zero, which no precision rounds away.
        boxes = boxes.round(decimals=9).float().double()
        if self.mode == "none" or not len(boxes) or not boxes.isfinite().all():
            raise SegmentationError("the painter was told to fail, or has nothing to paint")
        masks = torch.zeros(len(boxes), len(times), CANVAS, CANVAS, dtype=torch.bool)
        for m, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            for k, time in enumerate(times):
                shift = time - keyframe if self.mode == "shift" else 0
                rows, columns = _interval(y1 - 4 * shift, y2 - 4 * shift), _interval(x1 + 6 * shift, x2 + 6 * shift)
                masks[m, k, rows, columns] = True
        return masks


def _interval(first: float, last: float) -> slice:
    begin = max(math.floor(first), 0)
    return slice(begin, max(min(math.floor(last) + 1, CANVAS), begin))


def run(data: dict[str, Any]) -> Report:
    """Compare every section of a file with our rewards."""
    given = sections(data, ("fake_sam2_rule", "scenes", "cases", "multi_image_cases", "batch_iou_cases"))
    report = Report(KIND)
    scenes = given.get("scenes", {})
    for name, scene in scenes.items():
        with report.case(f"scenes/{name}"):
            _check_scene(report, scene)
    for case in given.get("cases", []):
        name = f"cases/{case['id']}"
        if case["id"].startswith("box_8_numbers"):
            report.skip(name, "rows of 8 numbers are no boxes here; the published code splits them into pairs")
            continue
        with report.case(name):
            _check_case(report, case, scenes[case["scene"]])
    for case in given.get("multi_image_cases", []):
        with report.case(f"multi_image_cases/{case['id']}"):
            _check_multi_image(report, case)
    for number, case in enumerate(given.get("batch_iou_cases", [])):
        with report.case(f"batch_iou_cases/{number}"):
            _check_batch_iou(report, case)
    return report


def _sample(scene: dict[str, Any], frame_ids: Sequence[int]) -> VideoSample:
    """Build a scene at its original size. Frames without an id of their own are in the sample but cannot be named."""
    height, width = scene["orig_hw"]
    masks = [torch.stack([_draw(scene["kind"], shape, height, width) for shape in row]) for row in scene["objects"]]
    return VideoSample(
        video_id="scene",
        expression_id="0",
        expression="the target",
        frame_ids=[*frame_ids, *[-2] * len(masks)][: len(masks)],
        frames=LazyStack.of(torch.zeros(len(masks), 3, height, width, dtype=torch.uint8)),
        masks=LazyStack.of(torch.stack(masks, dim=1), dim=1),
    )


def _draw(kind: str, shape: Sequence[float] | None, height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    if shape is None:
        return torch.zeros(height, width, dtype=torch.bool)
    if kind == "rect":
        x1, y1, x2, y2 = shape
        return (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    if kind == "ellipse":
        cx, cy, rx, ry = shape
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
    raise ValueError(f"Expected a scene of kind 'rect' or 'ellipse', but got {kind!r}")


def _check_scene(report: Report, scene: dict[str, Any]) -> None:
    sample = _sample(scene, scene["frame_ids"])
    slots = [canvas_slots(sample, time, CANVAS).tolist() for time in range(sample.num_frames)]
    solution = {str(time): [{"bbox_2d": box} for box in boxes] for time, boxes in enumerate(slots)}
    report.compare("solution", solution, json.loads(scene["solution"]), atol=1e-9, rtol=0)
    masks = resize_nearest(sample.target(), CANVAS)
    report.compare("gt_areas", masks.sum(dim=(-2, -1)), scene["gt_areas"])
    report.compare("gt_masks_rle", [_column_runs(mask) for mask in masks], scene["gt_masks_rle"])


def _column_runs(mask: Tensor) -> dict[str, Any]:
    values, counts = torch.unique_consecutive(mask.T.flatten(), return_counts=True)
    return {"size": list(mask.shape), "counts": [0] * bool(values[0]) + counts.tolist()}


def _check_case(report: Report, case: dict[str, Any], scene: dict[str, Any]) -> None:
    sample = _sample(scene, case["frame_ids"])
    named = range(min(len(case["frame_ids"]), sample.num_frames))
    text, painter = case["predict_str"], BoxPainter(case["fake_sam2"])
    matched = _episode(text, sample, named, VeasonR1(), painter, "matched")
    scores = RewardCollection(_rewards())([matched])
    got = {name: part.item() for name, part in scores.parts.items()}
    every = _episode(text, sample, named, VeasonR1(released_boxes="items"), painter, "all")
    external = MaskConsistency(released=True, matching="all", canvas=CANVAS).forward([every]).item()

    form, expected = matched.last.answer.form, case["outputs"]
    report.compare("format_think", form["think"], expected["format_think"])
    report.compare("format_json", form["json"], expected["format_json"])
    report.compare("format", got["form"], expected["format"])
    for name in ("keyframe", "spatial", "consistency"):
        report.compare(name, got[name], expected[name])
    both = got["spatial"] + got["consistency"]
    report.compare("spatial_plus_consistency", both, expected["spatial_plus_consistency"])
    report.compare("total", scores.total.item(), expected["total"])
    report.compare("total_float32", _float32_total(**got), expected["total_float32"])
    report.compare("external_seg", external, expected["external_seg"])

    by_id = got | {"external": external}
    ordinal = _episode(text, sample, range(sample.num_frames), VeasonR1(timestamps="ordinals"), painter, "matched")
    by_ordinal = {name: part.item() for name, part in RewardCollection(_rewards())([ordinal]).parts.items()}
    for name, value in case.get("variants_total_float32", {}).items():
        parts = by_ordinal if name in ORDINAL_VARIANTS else by_id
        report.compare(f"variants_total_float32.{name}", sum(parts[part] for part in VARIANTS[name]), value, atol=2e-6)


def _rewards() -> dict[str, Reward]:
    return {
        "form": Form(),
        "keyframe": KeyframeArea(released=True, canvas=CANVAS),
        "spatial": BoxIoU(released=True, canvas=CANVAS),
        "consistency": MaskConsistency(released=True, canvas=CANVAS),
    }


def _episode(
    text: str, sample: VideoSample, shown: Sequence[int], dialogue: VeasonR1, painter: BoxPainter, matching: str
) -> Episode:
    """Read a completion and have its boxes painted: all of them, or those that the published code prompts."""
    chat = dialogue.ask(sample, shown)
    turn = Turn(Completion([], text), dialogue.read(text, chat, released=True), list(range(sample.num_frames)))
    episode = Episode(sample, chat, [turn])
    found = match_boxes(episode, released=True, canvas=CANVAS)
    rows = list(range(len(turn.answer.boxes))) if matching == "all" else found.rows if found else []
    if turn.answer.keyframe is None or not rows:
        return episode
    prompt = Prompt(turn.answer.keyframe, turn.answer.boxes[rows])
    try:
        [planes] = painter(sample.frames.stack(), [prompt], turn.mask_frames)
    except SegmentationError as error:
        turn.failure = str(error)
        return episode
    turn.masks = torch.zeros(len(turn.answer.boxes), *planes.shape[1:], dtype=torch.bool)
    turn.masks[rows] = planes
    return episode


def _float32_total(form: float, keyframe: float, spatial: float, consistency: float) -> float:
    """Add the parts in the published order and precision (where C is no tensor, format and S are added as doubles)."""
    f, k, s, c = (torch.tensor(part, dtype=torch.float32) for part in (form, keyframe, spatial, consistency))
    return ((f + (s + c)) + k).item()


def _check_multi_image(report: Report, case: dict[str, Any]) -> None:
    """Score boxes against one target on the canvas; the value of the keyframe is not looked at."""
    dialogue = VeasonR1()
    blank = VideoSample("images", "0", "the target", [0], LazyStack.of(torch.zeros(1, 3, CANVAS, CANVAS)))
    chat = dialogue.ask(blank, [0])
    answer = dialogue.read(case["predict_str"], chat, released=True)
    episode = Episode(blank, chat, [Turn(Completion([], case["predict_str"]), answer)])
    form = Form().score(episode)
    target = torch.tensor([[float(value) for value in case["ground_truth"]]], dtype=torch.float64)
    iou = box_iou(to_canvas(answer.boxes, blank.size, CANVAS), target, inclusive=True)
    accuracy = match(iou).score if iou.isfinite().all() else 0.0
    report.compare("format", form, case["format"])
    report.compare("accuracy", accuracy, case["accuracy"])
    report.compare("total", form + accuracy, case["total"])


def _check_batch_iou(report: Report, case: dict[str, Any]) -> None:
    boxes, targets = (
        torch.tensor([[float(value) for value in box] for box in case[name]], dtype=torch.float64).reshape(-1, 4)
        for name in ("boxes1", "boxes2")
    )
    iou = box_iou(boxes, targets, inclusive=True)
    report.compare("iou", iou, case["iou"], atol=1e-9, rtol=0)
    matching = match(iou)
    report.compare("rows", matching.rows, case["rows"])
    report.compare("cols", matching.columns, case["cols"])
    report.compare("reward", matching.score, case["reward"], atol=1e-9, rtol=0)
