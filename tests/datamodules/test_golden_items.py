"""Veason-R1's training items on its toy set: ``veason_dataset.json``, read from disk by `ReVOS`."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from datamodules import ConversationDataset, ReVOS, StridedThroughAnchor
from datamodules.canvas import to_canvas
from datamodules.sampling import largest
from tests.builders import write_json

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "veason_dataset.json").read_text())
ITEMS = GOLDEN["train_items"]


class Forced(StridedThroughAnchor):
    """The published rule with a given anchor."""

    def __init__(self, anchor):
        super().__init__(num_frames=6, released=True)
        self.anchor = anchor

    def __call__(self, areas, length, generator):
        assert self.anchor in largest(areas(), 5)
        return self.through(self.anchor, length)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("golden")
    write_json(root / "meta_expressions_train_.json", GOLDEN["synthetic_meta"])
    write_json(root / "mask_dict.json", GOLDEN["synthetic_mask_dict"])
    for video_id, video in GOLDEN["synthetic_meta"]["videos"].items():
        folder = root / "JPEGImages" / video_id
        folder.mkdir(parents=True)
        for name in video["frames"]:
            Image.new("RGB", (video["width"], video["height"])).save(folder / f"{name}.jpg")
    return root


def boxes_in_every_slot(sample, time):
    """The published ground truth: zeros for an absent object, one box of zeros if all are absent."""
    boxes = []
    for mask in sample.masks.at(time):
        alone = sample.select([time])
        alone.masks = type(sample.masks).of(mask[None, None], dim=1)
        visible = alone.boxes(0)
        boxes.append(to_canvas(visible, sample.size, 560)[0].tolist() if len(visible) else [0, 0, 0, 0])
    return boxes if any(map(any, boxes)) else [[0, 0, 0, 0]]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item['video']}-{item['exp_id']}-{item['picked']}")
def test_train_item(root, item):
    dataset = ReVOS(root, selection=Forced(item["picked"]))
    keys = [record.key for record in dataset.index]
    sample = dataset[keys.index(f"{item['video']}/{item['exp_id']}")]
    assert sample.expression == item["exp"]
    assert sample.frame_ids == item["frame_ids"]
    assert sample.size == (item["height"], item["width"])
    solution = {int(time): [each["bbox_2d"] for each in boxes] for time, boxes in json.loads(item["solution"]).items()}
    for time in range(sample.num_frames):
        expected = torch.tensor(solution[time], dtype=torch.float64)
        got = torch.tensor(boxes_in_every_slot(sample, time), dtype=torch.float64)
        assert torch.allclose(got, expected, atol=1e-9, rtol=0), time
    resized = torch.nn.functional.interpolate(sample.target()[:, None].float(), (560, 560), mode="nearest")
    assert resized.sum(dim=(1, 2, 3)).tolist() == item["gt_areas_560"]


def test_no_absent_targets(root):
    assert {record.group for record in ReVOS(root).index} == {"referring", "reasoning"}


def test_conversation(root):
    """The published example; with ``boxes="masks"`` without its cumulative second box."""
    record = GOLDEN["cot_record_example"]
    write_json(root / "conversations.json", [record])
    answer = json.loads(record["solution"].removeprefix("<answer>").removesuffix("</answer>"))
    for boxes in ("record", "masks"):
        sample = ConversationDataset(ReVOS(root), boxes=boxes)[0]
        assert sample.frame_ids == record["frame_ids"]
        (conversation,) = sample.meta["conversations"]
        assert conversation.expression == record["exp"]
        assert conversation.thinking == "REASONING"
        assert sample.frame_ids[conversation.keyframe] == answer["keyframe_timestamp"]
        on_canvas = to_canvas(conversation.boxes, sample.size, 560)
        expected = torch.tensor(answer["bbox_2d_list"], dtype=torch.float64)
        difference = (on_canvas - expected).abs().amax(dim=1)
        assert difference[0] <= 0.005 + 1e-9  # the record has two decimals
        assert (difference[1] <= 0.005 + 1e-9) == (boxes == "record")
