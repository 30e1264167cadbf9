import json

import pytest
import torch

from datamodules import BadSampleError, ConversationDataset, DatasetNotFoundError, MeViS, ReVOS
from tests.builders import write_conversations, write_json, write_mevis, write_revos


@pytest.fixture
def root(tmp_path):
    write_conversations(write_revos(tmp_path))
    return tmp_path


def records(root, **change):
    """The written record with other fields, ``answer`` being its solution."""
    record = json.loads((root / "conversations.json").read_text())[0]
    if "answer" in change:
        change["solution"] = f"<answer>{change.pop('answer')}</answer>"
    return [record | change]


def test_sample(root):
    sample = ConversationDataset(ReVOS(root))[0]
    assert (sample.key, sample.expression, sample.frame_ids) == ("toy/a/0", "The mover.", [1, 3, 5])
    assert [sample.meta["frame_names"][time] for time in sample.frame_ids] == ["00001", "00003", "00005"]
    assert sample.masks.stack().shape == (1, 3, 32, 32)
    (conversation,) = sample.meta["conversations"]
    assert (conversation.thinking, conversation.keyframe) == ("It moves.", 1)
    # frame 3: left edge 2 * 3; the dummy box of zeros is left out
    assert conversation.boxes.dtype == torch.float64
    assert conversation.boxes.tolist() == [pytest.approx([6, 4, 14, 12], abs=1e-9)]


def test_canvas(root):
    write_conversations(root, canvas=1000)
    (conversation,) = ConversationDataset(ReVOS(root), canvas=1000)[0].meta["conversations"]
    assert conversation.boxes.tolist() == [pytest.approx([6, 4, 14, 12], abs=1e-9)]


@pytest.mark.parametrize(
    ("num_frames", "expected", "keyframe"), [(1, [3], 0), (2, [3, 5], 0), (3, [1, 3, 5], 1), (9, [1, 3, 5], 1)]
)
def test_num_frames(root, num_frames, expected, keyframe):
    sample = ConversationDataset(ReVOS(root), num_frames=num_frames)[0]
    assert sample.frame_ids == expected
    assert sample.meta["conversations"][0].keyframe == keyframe


def test_records_about_the_same_frames_are_one_sample(root):
    (record,) = records(root)
    late = record | {"exp_id": "1", "CoT": "<think>Late.</think>"}
    elsewhere = record | {"frame_ids": [0, 3], "exp_id": "2"}
    write_json(root / "conversations.json", [record, elsewhere, late])
    dataset = ConversationDataset(ReVOS(root))
    assert [sample.frame_ids for sample in dataset] == [[1, 3, 5], [0, 3]]
    assert [each.expression for each in dataset[0].meta["conversations"]] == ["The mover.", "who arrives late?"]
    assert [each.thinking for each in dataset[0].meta["conversations"]] == ["It moves.", "Late."]


def test_boxes_of_masks(root):
    (record,) = records(root)
    write_json(root / "conversations.json", [record | {"exp_id": "2"}])
    (conversation,) = ConversationDataset(ReVOS(root), boxes="masks")[0].meta["conversations"]
    assert conversation.boxes.tolist() == [[6, 4, 14, 12], [2, 20, 14, 30]]


def test_groups_that_the_dataset_leaves_out_are_left_out(root):
    (record,) = records(root)
    write_json(root / "conversations.json", [record, record | {"exp_id": "1"}])
    (sample,) = ConversationDataset(ReVOS(root, groups=["reasoning"]))
    assert sample.expression == "who arrives late?"


def test_mevis(tmp_path):
    write_conversations(write_mevis(tmp_path), video="a", name="train/conversations.json")
    dataset = ConversationDataset(MeViS(tmp_path), conversations="train/conversations.json")
    assert dataset[0].meta["conversations"][0].keyframe == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"video": "toy/z"}, "to name an expression of ReVOS 'train'", id="unknown video"),
        pytest.param({"exp_id": "9"}, "to name an expression", id="unknown expression"),
        pytest.param({"frame_ids": []}, "`frame_ids`, `CoT` and `solution`", id="no frames"),
        pytest.param({"CoT": None}, "`frame_ids`, `CoT` and `solution`", id="no thought"),
        pytest.param({"frame_ids": [1, 3, 6]}, r"in \[0, 6\), but got \[1, 3, 6\]", id="frame beyond the end"),
        pytest.param({"answer": "{"}, "JSON `solution`", id="no JSON"),
        pytest.param({"answer": "[]"}, "JSON `solution`", id="a list"),
        pytest.param({"answer": '{"keyframe_timestamp": 3}'}, "JSON `solution`", id="no boxes"),
        pytest.param({"answer": '{"keyframe_timestamp": 3, "bbox_2d_list": [[1, 2, 3]]}'}, "JSON", id="three numbers"),
        pytest.param({"answer": '{"keyframe_timestamp": 2, "bbox_2d_list": []}'}, r"\[1, 3, 5\]", id="other keyframe"),
        pytest.param({"answer": '{"keyframe_timestamp": 3, "bbox_2d_list": [[0, 0, 1, NaN]]}'}, "finite", id="NaN"),
    ],
)
def test_malformed_record(root, change, message):
    write_json(root / "conversations.json", records(root, **change) + records(root))
    with pytest.raises(BadSampleError, match=message) as caught:
        ConversationDataset(ReVOS(root))[0]
    assert caught.value.reason == "malformed record"
    assert "record 0 ('toy/" in str(caught.value)
    assert "conversations.json" in str(caught.value)
    tolerant = ConversationDataset(ReVOS(root), on_bad_sample="skip")
    assert [sample is None for sample in tolerant] == [True, False]
    assert tolerant.skipped == {"malformed record": 1}


def test_malformed_file(root):
    write_json(root / "conversations.json", {})
    with pytest.raises(ValueError, match=r"conversations.json` to hold a list, but got a dict"):
        len(ConversationDataset(ReVOS(root)))


def test_not_found(root):
    with pytest.raises(DatasetNotFoundError, match=r"expected `chains.json`"):
        len(ConversationDataset(ReVOS(root), conversations="chains.json"))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"num_frames": 0}, "`num_frames`"), ({"boxes": "none"}, "`boxes`")]
)
def test_arguments(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        ConversationDataset(ReVOS(root), **arguments)
