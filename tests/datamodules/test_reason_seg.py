"""ReasonSeg: what shapes make of an image, and which texts about it count."""

import json

import pytest
import torch

from datamodules import BadSampleError, DatasetNotFoundError, ReasonSeg
from tests.builders import edit_json
from tests.layouts_other import shape, write_reason_seg


def first(root, split="train"):
    return root / split / "0_22e5a7d7f8_o.json"


def edit(path, **fields):
    edit_json(path, lambda content: content.update(fields))


def filled(*box):
    x1, y1, x2, y2 = box
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


BIG, SMALL, BESIDE = (4, 4, 20, 20), (8, 8, 12, 12), (18, 4, 24, 10)


@pytest.mark.parametrize(
    ("shapes", "target", "void"),
    [
        # the smaller is painted later, wherever it is in the file
        ([("target", SMALL), ("ignore", BIG)], filled(*SMALL), filled(*BIG) & ~filled(*SMALL)),
        ([("ignore", SMALL), ("target", BIG)], filled(*BIG) & ~filled(*SMALL), filled(*SMALL)),
        ([("target", BESIDE), ("target", BIG)], filled(*BESIDE) | filled(*BIG), None),
        ([("Ignore_2", SMALL), ("lamp", BIG)], filled(*BIG) & ~filled(*SMALL), filled(*SMALL)),
        ([("Flag", BESIDE), ("target", BIG)], filled(*BIG), None),
        ([("ignore", BIG)], filled(0, 0, 0, 0), filled(*BIG)),
        ([("ignore", BIG), ("target", BIG)], filled(0, 0, 0, 0), filled(*BIG)),  # of two as large the last comes first
        ([], filled(0, 0, 0, 0), None),
    ],
    ids=["in void", "void in", "overlap", "labels", "flag", "void only", "tie", "nothing"],
)
def test_shapes(tmp_path, shapes, target, void):
    write_reason_seg(tmp_path)
    edit(first(tmp_path), shapes=[shape(label, box) for label, box in shapes])
    sample = ReasonSeg(tmp_path)[0]
    assert torch.equal(sample.target([0])[0], target)
    assert (sample.void is None) == (void is None)
    assert void is None or torch.equal(sample.void.at(0), void)


def test_texts(tmp_path):
    write_reason_seg(tmp_path)
    for split in ("train", "val"):
        edit(first(tmp_path, split), text=["the mover", "what moves"])
    assert [record.expression for record in ReasonSeg(tmp_path).index][:2] == ["the mover", "what moves"]
    assert [record.key for record in ReasonSeg(tmp_path).index][:2] == ["0_22e5a7d7f8_o/0", "0_22e5a7d7f8_o/1"]
    assert (len(ReasonSeg(tmp_path)), len(ReasonSeg(tmp_path, texts="first"))) == (7, 6)
    assert (len(ReasonSeg(tmp_path, "val")), len(ReasonSeg(tmp_path, "val", texts="all"))) == (6, 7)


def test_groups(tmp_path):
    write_reason_seg(tmp_path)
    assert [sample.meta["group"] for sample in ReasonSeg(tmp_path, "val")] == ["short", "long", "short"] * 2
    assert len(ReasonSeg(tmp_path, "test", groups=["long"])) == 2
    for arguments in ({"split": "testA"}, {"groups": ["hard"]}, {"texts": "last"}):
        with pytest.raises(ValueError, match=rf"Expected `{next(iter(arguments))}` of ReasonSeg"):
            ReasonSeg(tmp_path, **arguments)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_encodings(tmp_path, encoding):
    write_reason_seg(tmp_path)
    content = json.loads(first(tmp_path).read_text()) | {"text": ["the café’s sign"]}
    first(tmp_path).write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert ReasonSeg(tmp_path)[0].expression == "the café’s sign"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "a cat"}, "`text` of `.*0_22e5a7d7f8_o.json` to be list, but got a cat"),
        ({"text": [["a cat"]]}, "`text` of `.*0_22e5a7d7f8_o.json` to be a list of str"),
        ({"is_sentence": "yes"}, "`is_sentence` of `.*0_22e5a7d7f8_o.json` to be bool"),
        ({"shapes": None}, "`shapes` of `.*0_22e5a7d7f8_o.json` to be list"),
        ({"shapes": [{"points": [[1, 2]]}]}, "`label` of a shape in `.*0_22e5a7d7f8_o.json` to be str"),
        ({"shapes": [{"label": "target"}]}, "`points` of a shape in `.*0_22e5a7d7f8_o.json` to be list"),
    ],
)
def test_malformed_files(tmp_path, fields, message):
    write_reason_seg(tmp_path)
    edit(first(tmp_path), **fields)
    with pytest.raises(ValueError, match=message):
        len(ReasonSeg(tmp_path))


@pytest.mark.parametrize("content", [b'{"text": [', b"\x81\xff"], ids=["truncated", "no text"])
def test_no_json(tmp_path, content):
    write_reason_seg(tmp_path)
    first(tmp_path).write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected JSON in `.*0_22e5a7d7f8_o.json`, but got"):
        len(ReasonSeg(tmp_path))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], r"Expected a polygon \[\[x1, y1\]"),
        ([[1, 2, 3]], r"Expected a polygon \[\[x1, y1\]"),
        ([[1, "2"]], "coordinates of a polygon between -64 and 64, but got 2"),
        ([[1, 2], [3, 1e12]], "but got 1000000000000.0"),
    ],
)
def test_bad_shapes(tmp_path, points, message):
    write_reason_seg(tmp_path)
    edit(first(tmp_path), shapes=[{"label": "target", "points": points}])
    with pytest.raises(BadSampleError, match=rf"'0_22e5a7d7f8_o/0', `points` .*0_22e5a7d7f8_o.json`: .*{message}"):
        ReasonSeg(tmp_path)[0]


def test_missing_annotations_are_listed(tmp_path):
    write_reason_seg(tmp_path)
    first(tmp_path).unlink()
    with pytest.raises(DatasetNotFoundError, match=r"expected `train/0_22e5a7d7f8_o.json`; README"):
        len(ReasonSeg(tmp_path))
