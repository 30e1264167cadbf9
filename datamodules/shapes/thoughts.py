"""Chains of thought for supervised training, in the record form of Veason-R1's released conversations."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from datamodules.canvas import to_canvas
from datamodules.sampling import StridedThroughAnchor, largest
from datamodules.shapes.expressions import Expression, plural
from datamodules.shapes.scenes import Scene
from datamodules.structures import tight_boxes

#: side of the square canvas on which Veason-R1 names boxes
CANVAS = 560
#: a shape that moves less than this fraction of the shorter side between first and last view stays
_STAYS = 0.03


def conversation_records(
    scene: Scene, expression: Expression, meta: dict[str, Any], sampled_frames: int
) -> Iterator[dict[str, Any]]:
    """Write one conversation for each group of frames that training can draw for an expression.

    The keyframe is the first frame of the group with the largest target area. Boxes are of the shapes visible there,
    on the canvas of side 560, rounded to two decimals. The thought has three short steps: what the target is and does,
    why the keyframe, and what to box there. It does not say where the target is: given the true place in words, a small
    model learns to spell coordinates from them instead of from the frame, and has nothing to spell from at inference.

    Args:
        scene: the video.
        expression: a sentence with a target.
        meta: fields of the record that say which video and expression it is about.
        sampled_frames: ``num_frames`` of `StridedThroughAnchor`.

    Yields:
        Records with the keys of ``meta`` and ``CoT``, ``sampled_video_frames``, ``frame_ids``, ``solution`` and
        ``conversation``. Groups that do not show the target are left out.

    Reference:
        ``seed_cot_generation.py`` of SitongGong/Veason-R1. There, absent objects have a box of zeros, which no
        segmenter can use, and boxes of several objects are cumulative by mistake; neither is repeated.
    """
    masks = scene.masks[list(expression.targets)]
    areas = [int(area) for area in masks.any(axis=0).sum(axis=(1, 2))]
    for frame_ids in frame_groups(areas, sampled_frames):
        keyframe = max(frame_ids, key=lambda time: areas[time])
        if areas[keyframe] == 0:
            continue
        boxes = tight_boxes(torch.from_numpy(masks[:, keyframe]))
        on_canvas = to_canvas(boxes, scene.labels.shape[1:], CANVAS)
        answer = json.dumps({"keyframe_timestamp": keyframe, "bbox_2d_list": _rounded(on_canvas)})
        thought = f"<think>{_thought(scene, expression, frame_ids, keyframe)}</think>"
        solution = f"<answer>{answer}</answer>"
        question = (
            f'<video>\nFind "{expression.text}". Name the frame that shows it best and its box or boxes in that frame. '
            "Think between <think> </think>, then give keyframe timestamp and boxes between <answer> </answer>."
        )
        yield meta | {
            "CoT": thought,
            "sampled_video_frames": [meta["frame_path"][time] for time in frame_ids],
            "frame_ids": frame_ids,
            "solution": solution,
            "conversation": [{"from": "human", "value": question}, {"from": "gpt", "value": f"{thought}\n{solution}"}],
        }


def frame_groups(areas: Sequence[int], sampled_frames: int) -> list[list[int]]:
    """Return every group of frames that `StridedThroughAnchor` can draw.

    Args:
        areas: pixels of the target in each frame.
        sampled_frames: its ``num_frames``.

    Returns:
        Distinct groups, that of the largest area first.
    """
    selection = StridedThroughAnchor(sampled_frames)
    groups = [selection.through(anchor, len(areas)) for anchor in largest(areas, selection.top)]
    return [list(group) for group in dict.fromkeys(map(tuple, groups))]


def _thought(scene: Scene, expression: Expression, frame_ids: list[int], keyframe: int) -> str:
    targets = [scene.shapes[n] for n in expression.targets]
    looks = Counter((shape.colour, shape.form) for shape in targets)
    what = " and ".join(f"the {colour} {plural(form) if n > 1 else form}" for (colour, form), n in looks.items())
    if len(targets) == 1:
        what = f"{what} {expression.reason or _motion(scene, expression.targets[0], frame_ids)}"
    visible = int(scene.masks[list(expression.targets), keyframe].any(axis=(1, 2)).sum())
    return f"Step 1: {what}. Step 2: largest at {keyframe}s. Step 3: {'box it' if visible == 1 else 'box each'}."


def _motion(scene: Scene, target: int, frame_ids: list[int]) -> str:
    """Say what a shape does between the first and the last frame of the group that shows it."""
    seen = [time for time in frame_ids if scene.areas[target, time]]
    centres = scene.shapes[target].path.centres
    x, y = (int(d) for d in centres[seen[-1]] - centres[seen[0]])
    if len(seen) == 1:
        return "appears"
    if max(abs(x), abs(y)) < _STAYS * min(scene.labels.shape[1:]):
        return "stays"
    if abs(x) >= abs(y):
        return "moves right" if x > 0 else "moves left"
    return "moves down" if y > 0 else "moves up"


def _rounded(boxes: torch.Tensor) -> list[list[float]]:
    return [[round(float(c), 2) for c in box] for box in boxes]
