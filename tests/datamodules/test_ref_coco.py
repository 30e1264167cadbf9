"""RefCOCO, RefCOCO+ and RefCOCOg: polygons, run-length codes, sentences of an image."""

import pytest
import torch

from datamodules import BadSampleError, RefCOCO
from tests.builders import edit_json, two_squares, write_json
from tests.layouts_other import BOXES, SHOWN, rectangle, write_ref_coco

IMAGE = "COCO_train2014_000000000072"


def edit(root, change):
    edit_json(root / "annotations" / "refcoco-unc" / "instances.json", lambda content: change(content["train"]))


def test_polygons_and_codes_are_the_same_masks(tmp_path):
    write_ref_coco(tmp_path)
    still = two_squares()[:, SHOWN : SHOWN + 1]
    masks = [sample.masks.stack() for sample in RefCOCO(tmp_path)]
    for polygon, code, both in (masks[:3], masks[3:]):
        assert torch.equal(polygon, still[:1])
        assert torch.equal(code, still[1:])
        assert torch.equal(both, still.any(dim=0, keepdim=True))


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("refcoco", ["train", "val", "testA", "testB"]),
        ("refcoco+", ["train", "val", "testA", "testB"]),
        ("refcocog", ["train", "val", "test"]),
    ],
)
def test_sets_and_splits(tmp_path, name, splits):
    write_ref_coco(tmp_path)
    for split in splits:
        assert len(RefCOCO(tmp_path, name, split)) == 6
    with pytest.raises(ValueError, match=rf"Expected `split` of {name.replace('+', '.')} to be of .*, but got 'dev'"):
        RefCOCO(tmp_path, name, "dev")
    (tmp_path / "annotations").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"`annotations/refcoco(plus|g|)-(unc|umd)/instances.json`"):
        len(RefCOCO(tmp_path, name, splits[0]))


def test_invalid_name(tmp_path):
    with pytest.raises(ValueError, match=r"Expected `name` of RefCOCO to be of .*, but got 'refclef'"):
        RefCOCO(tmp_path, "refclef")


def test_every_sentence_is_a_record_and_those_of_an_image_are_together(tmp_path):
    write_ref_coco(tmp_path)

    def change(instances):
        instances[0]["expressions"] = ["left", "LEFT", "left"]
        instances.append(instances.pop(1))  # the second object of the first image comes last

    edit(tmp_path, change)
    records = RefCOCO(tmp_path).index
    assert [(record.video_id[-3:], record.expression_id, record.expression) for record in records] == [
        ("072", "0", "left"),
        ("072", "1", "LEFT"),
        ("072", "2", "left"),
        ("072", "3", "both squares"),
        ("072", "4", "who arrives late?"),
        ("857", "0", "The mover."),
        ("857", "1", "who arrives late?"),
        ("857", "2", "both squares"),
    ]
    assert all(record.frame_names == (record.video_id,) for record in records)
    late = RefCOCO(tmp_path)[4]
    assert torch.equal(late.masks.stack(), two_squares()[1:, SHOWN : SHOWN + 1])


def test_an_empty_mask(tmp_path):
    write_ref_coco(tmp_path)
    edit(tmp_path, lambda instances: instances[0].update(mask=[]))
    assert RefCOCO(tmp_path)[0].masks.stack().sum() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_id", "../72"),
        ("height", None),
        ("width", "32"),
        ("expressions", "left"),
        ("expressions", [7]),
        ("mask", "zz"),
    ],
)
def test_malformed_instances(tmp_path, field, value):
    write_ref_coco(tmp_path)
    edit(tmp_path, lambda instances: instances[1].update({field: value}))
    with pytest.raises(ValueError, match=rf"`{field}` of instance 1 of 'train' in `.*instances.json` to be"):
        len(RefCOCO(tmp_path))


def test_malformed_file(tmp_path):
    write_ref_coco(tmp_path)
    write_json(tmp_path / "annotations" / "refcoco-unc" / "instances.json", {"val": []})
    with pytest.raises(ValueError, match=r"`train` of `.*instances.json` to be list, but got None"):
        len(RefCOCO(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": [[1.0, 2.0, 3.0, 4.0]]}, r"instance 0 of 'train' in `.*instances.json`: Expected a polygon"),
        ({"mask": [[1, 2, 3, 4, 1e9, 6]]}, r"instance 0 .*between -64 and 64, but got 1000000000"),
        ({"mask": {"size": [32, 32], "counts": "zz"}}, r"object 0, time 0: .*malformed string"),
        ({"height": 16, "mask": [rectangle(*BOXES[0])]}, r"32 x 32 \(height x width\), but got 16 x 32"),
        ({"height": 0, "mask": [rectangle(*BOXES[0])]}, r"instance 0 .*`size` \[height, width\], but got \[0, 32\]"),
    ],
    ids=["no polygon", "far away", "no code", "another size", "no size"],
)
def test_bad_masks(tmp_path, changes, message):
    write_ref_coco(tmp_path)
    edit(tmp_path, lambda instances: instances[0].update(changes))
    with pytest.raises(BadSampleError, match=message):
        RefCOCO(tmp_path)[0].masks.stack()


def test_unsafe_name(tmp_path):
    dataset = RefCOCO(write_ref_coco(tmp_path))
    with pytest.raises(BadSampleError, match=r"'../secret/0'.*without `..` below `.*train2014`"):
        dataset.frames(dataset.record("../secret", 0, "left"))


def test_missing_image(tmp_path):
    write_ref_coco(tmp_path)
    (tmp_path / "images" / "mscoco" / "train2014" / f"{IMAGE}.jpg").unlink()
    with pytest.raises(BadSampleError, match=rf"'{IMAGE}/0': expected a frame `.*{IMAGE}.jpg`, but there is no such"):
        RefCOCO(tmp_path)[0]
