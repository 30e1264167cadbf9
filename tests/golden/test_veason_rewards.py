import copy
import json

import pytest
import torch

from dialogues import VeasonR1
from dialogues.episode import Completion, Episode, Turn
from models.segmenters.base import Prompt
from rewards import BoxIoU, Form, MaskConsistency, RewardCollection
from tests.builders import video_sample
from tests.golden import FOLDER, run
from tests.golden.veason_rewards import BoxPainter, SegmentationError

KIND = "veason_rewards"
DATA = json.loads((FOLDER / f"{KIND}.json").read_text())


def test_all_cases_pass():
    report = run(KIND, DATA)
    assert not any(report.failures.values())
    assert report.lines()[-1] == f"{KIND}: {report.total}/{report.total}"
    assert (
        report.total == sum(len(DATA[name]) for name in ("scenes", "cases", "multi_image_cases", "batch_iou_cases")) - 1
    )
    assert set(report.skipped) == {"cases/box_8_numbers_1gt"}
    assert report.differences["total_float32"] == 0  # bit for bit


@pytest.mark.parametrize(
    "field",
    [
        *(
            "format_think",
            "format_json",
            "keyframe",
            "spatial",
            "consistency",
            "total",
            "total_float32",
            "external_seg",
        ),
        *DATA["cases"][0]["variants_total_float32"],
    ],
)
def test_each_output_is_compared(field):
    case = copy.deepcopy(DATA["cases"][0])
    (case["outputs"] if field in case["outputs"] else case["variants_total_float32"])[field] += 1e-3
    report = run(KIND, {"kind": KIND, "scenes": {case["scene"]: DATA["scenes"][case["scene"]]}, "cases": [case]})
    assert report.lines()[-1] == f"{KIND}: 1/2"
    assert any(field in failure for failure in report.failures[f"cases/{case['id']}"])


@pytest.mark.parametrize("field", ["solution", "gt_areas", "gt_masks_rle"])
def test_each_scene_is_compared(field):
    scene = copy.deepcopy(DATA["scenes"]["single"])
    scene["objects"][2] = [[0, 0, 3, 3]]
    report = run(KIND, {"kind": KIND, "scenes": {"changed": scene}})
    assert any(failure.startswith(field) for failure in report.failures["scenes/changed"])


def test_missing_sections_are_no_error():
    assert run(KIND, {"kind": KIND}).lines()[-1] == f"{KIND}: 0/0"


@pytest.mark.parametrize(
    ("mode", "columns", "rows"),
    [
        ("fill", [(10, 21)] * 3, [(30, 41)] * 3),
        ("shift", [(4, 15), (10, 21), (16, 27)], [(34, 45), (30, 41), (26, 37)]),
    ],
)
def test_painter(mode, columns, rows):
    frames = torch.zeros(3, 3, 560, 560, dtype=torch.uint8)
    # canonical [9.5, 29.5, 20.5, 40.5] is [10, 30, 20, 40] on the canvas
    prompt = Prompt(1, torch.tensor([[9.5, 29.5, 20.5, 40.5]]))
    [masks] = BoxPainter(mode)(frames, [prompt], [0, 1, 2])
    for mask, (left, right), (top, bottom) in zip(masks[0], columns, rows, strict=True):
        expected = torch.zeros(560, 560, dtype=torch.bool)
        expected[top:bottom, left:right] = True
        assert torch.equal(mask, expected)


@pytest.mark.parametrize(
    ("mode", "boxes"), [("none", [[0, 0, 1, 1]]), ("fill", []), ("fill", [[0, 0, float("inf"), 1]])]
)
def test_painter_fails(mode, boxes):
    prompt = Prompt(0, torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4))
    with pytest.raises(SegmentationError):
        BoxPainter(mode)(torch.zeros(1, 3, 8, 8), [prompt], [0])


def scored(boxes, rewards, keyframe=0, released=False):
    """Score an answer about a square that is in the upper left quarter and, as a second object, absent."""
    masks = torch.zeros(2, 2, 56, 56, dtype=torch.bool)
    masks[0, :, 0:28, 0:28] = True
    dialogue = VeasonR1()
    sample = video_sample(masks)
    chat = dialogue.ask(sample, [0, 1])
    value = json.dumps({"keyframe_timestamp": keyframe, "bbox_2d_list": boxes})
    answer = dialogue.read(f"<think>t</think><answer>{value}</answer>", chat, released)
    planes = torch.zeros(len(answer.boxes), 2, 56, 56, dtype=torch.bool)
    for plane, box in zip(planes, answer.boxes.round().int().tolist(), strict=True):
        plane[:, max(box[1], 0) : box[3], max(box[0], 0) : box[2]] = True
    episode = Episode(sample, chat, [Turn(Completion([], ""), answer, [0, 1], planes)])
    return RewardCollection(rewards)([episode]).total.item()


#: the box of the square as it is published: its last pixel is 27, and 27 * 10 + 0.5 = 270.5
SQUARE = [0.5, 0.5, 270.5, 270.5]


def repaired():
    return {"form": Form(), "boxes": BoxIoU(), "masks": MaskConsistency()}


def released():
    return {"form": Form(), "boxes": BoxIoU(released=True), "masks": MaskConsistency(released=True)}


@pytest.mark.parametrize(
    ("boxes", "gains"),
    [
        ([SQUARE, [0, 0, 0, 0]], True),  # the published exploit: a dummy for the absent object earns half of S
        ([SQUARE, [300, 300, 400, 400]], False),
        ([SQUARE, [300, 300, 200, 200]], False),
        ([SQUARE, [True, True, True, True]], False),
        ([SQUARE, SQUARE], False),
    ],
    ids=["dummy", "surplus", "inverted", "bools", "twice"],
)
def test_no_second_box_beats_the_right_one(boxes, gains):
    assert scored(boxes, repaired()) < scored([SQUARE], repaired())
    assert (scored(boxes, released(), released=True) > scored([SQUARE], released(), released=True) + 0.1) == gains
