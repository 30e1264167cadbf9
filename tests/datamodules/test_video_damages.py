"""What is wrong with benchmarks of videos: errors that name file and record."""

import shutil

import numpy as np
import pytest
from PIL import Image

from datamodules import BadSampleError, DatasetNotFoundError, LongRVOS, ReasonVOS, RefDAVIS17, RefSAV, RefYouTubeVOS
from datamodules.check import check
from tests.builders import edit_json
from tests.layouts_video import (
    write_long_rvos,
    write_reason_vos,
    write_ref_davis,
    write_ref_sav,
    write_ref_youtube_vos,
)


def _said(content, video):
    return content["videos"][video]["expressions"]["0"]


YTVOS = "meta_expressions/train/meta_expressions.json"
#: dataset, writer, file, how it is broken, what the message names besides the file
MALFORMED = {
    "no label": (
        RefYouTubeVOS,
        write_ref_youtube_vos,
        YTVOS,
        lambda c: _said(c, "a").pop("obj_id"),
        "'0' of 'a'.*obj_id",
    ),
    "label 0": (
        RefYouTubeVOS,
        write_ref_youtube_vos,
        YTVOS,
        lambda c: _said(c, "a").update(obj_id="0"),
        "from 1 to 254",
    ),
    "label 255": (RefDAVIS17, write_ref_davis, YTVOS, lambda c: _said(c, "blackswan").update(obj_id="255"), "1 to 254"),
    "label path": (
        RefDAVIS17,
        write_ref_davis,
        YTVOS,
        lambda c: _said(c, "blackswan").update(obj_id="../1"),
        r"\.\./1",
    ),
    "no type": (
        LongRVOS,
        write_long_rvos,
        "train/meta_expressions.json",
        lambda c: _said(c, "b").pop("type"),
        "`type`",
    ),
    "type": (
        LongRVOS,
        write_long_rvos,
        "train/meta_expressions.json",
        lambda c: _said(c, "b").update(type="hybrid"),
        r"'0' of 'b'.*static\+dynamic",
    ),
    "object list": (
        LongRVOS,
        write_long_rvos,
        "train/meta_expressions.json",
        lambda c: _said(c, "b").update(obj_id=[1]),
        "`obj_id` .a number or name",
    ),
    "type_id": (
        RefSAV,
        write_ref_sav,
        "meta_expressions_valid.json",
        lambda c: _said(c, "sav_000001").update(type_id=2),
        "'0' of 'sav_000001'.*`type_id`",
    ),
    "expressions": (
        ReasonVOS,
        write_reason_vos,
        "meta_expressions.json",
        lambda c: c["videos"]["00a"].update(expressions={}),
        "'00a'.*`expressions` .a list",
    ),
    "no source": (
        ReasonVOS,
        write_reason_vos,
        "meta_expressions.json",
        lambda c: c["videos"]["00a"].pop("source"),
        "'00a'.*`source`",
    ),
    "no text": (
        ReasonVOS,
        write_reason_vos,
        "meta_expressions.json",
        lambda c: c["videos"]["00a"]["expressions"][1].pop("exp_text"),
        "expression 1 of '00a'.*`exp_text`",
    ),
    "is_sent": (
        ReasonVOS,
        write_reason_vos,
        "meta_expressions.json",
        lambda c: c["videos"]["00a"]["expressions"][1].update(is_sent="yes"),
        "expression 1 of '00a'.*`is_sent`",
    ),
    "no videos": (ReasonVOS, write_reason_vos, "meta_expressions.json", lambda c: c.pop("videos"), "`videos`"),
}


@pytest.mark.parametrize("damage", MALFORMED)
def test_malformed_file(tmp_path, damage):
    kind, write, name, change, message = MALFORMED[damage]
    edit_json(write(tmp_path) / name, change)
    with pytest.raises(ValueError, match=message) as caught:
        len(kind(tmp_path, on_bad_sample="skip"))
    assert name in str(caught.value)
    assert list(check(kind(tmp_path)).problems) == ["malformed file"]


#: dataset, writer, how it is broken, reason, what the message names; the first expression is hit, the last is not
DAMAGES = {
    "missing palette picture": (
        RefYouTubeVOS,
        write_ref_youtube_vos,
        lambda root: (root / "train/Annotations/a/00003.png").unlink(),
        "malformed mask",
        r"a/0, object 0, time 3: .*train/Annotations/a/00003.png",
    ),
    "colour picture": (
        RefDAVIS17,
        write_ref_davis,
        lambda root: Image.new("RGB", (32, 32)).save(root / "train/Annotations/dogs-jump/00001.png"),
        "malformed mask",
        "dogs-jump/0, object 0, time 1: .*mode 'RGB'",
    ),
    "picture of another size": (
        LongRVOS,
        write_long_rvos,
        lambda root: Image.fromarray(np.zeros((16, 32), np.uint8)).save(root / "train/Annotations/a/0/00002.png"),
        "mask size",
        "a/0, object 0, time 2: .*32 x 32.*16 x 32",
    ),
    "no folder of the object": (
        LongRVOS,
        write_long_rvos,
        lambda root: shutil.rmtree(root / "train/Annotations/a/0"),
        "missing masks",
        "'a/0': expected a folder `.*train/Annotations/a/0`",
    ),
    "object outside": (
        LongRVOS,
        write_long_rvos,
        lambda root: edit_json(root / "train/meta_expressions.json", lambda c: _said(c, "a").update(obj_id="../b/0")),
        "unsafe name",
        r"'a/0': .*'\.\./b/0'",
    ),
    "frame outside": (
        RefYouTubeVOS,
        write_ref_youtube_vos,
        lambda root: edit_json(root / YTVOS, lambda c: c["videos"]["a"]["frames"].__setitem__(0, "../secret")),
        "unsafe name",
        r"'a/0': .*'\.\./secret",
    ),
    "source outside": (
        ReasonVOS,
        write_reason_vos,
        lambda root: edit_json(root / "meta_expressions.json", lambda c: c["videos"]["00a"].update(source="../MOSE")),
        "unsafe name",
        r"'\.\./MOSE_00a_7'",
    ),
    "no masks": (
        ReasonVOS,
        write_reason_vos,
        lambda root: shutil.rmtree(root / "Annotations/MOSE_00a_7"),
        "missing masks",
        r"'MOSE_00a_7/0': expected masks of frames of '00a' in `.*Annotations/MOSE_00a_7`, but got no PNG",
    ),
    "masks of no frame": (
        ReasonVOS,
        write_reason_vos,
        lambda root: shutil.copy(root / "Annotations/MOSE_00a_7/00000.png", root / "Annotations/MOSE_00a_7/00009.png"),
        "missing masks",
        r"\['00009'\], which are none",
    ),
    "unknown track": (
        RefSAV,
        write_ref_sav,
        lambda root: edit_json(root / "mask_dict.json", lambda c: c.pop("0")),
        "unknown annotation",
        "'sav_000001/0' in `.*meta_expressions_valid.json`: expected annotation '0' in `.*mask_dict.json`",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_sample(tmp_path, damage):
    kind, write, break_it, reason, message = DAMAGES[damage]
    break_it(write(tmp_path))
    dataset = kind(tmp_path)
    with pytest.raises(BadSampleError, match=message) as caught:
        dataset[0].masks.stack()
    assert caught.value.reason == reason
    dataset[len(dataset) - 1].masks.stack()  # the other video
    skipping = kind(tmp_path, on_bad_sample="skip")
    kept = [sample.key for sample in (skipping[index] for index in range(len(skipping))) if sample is not None]
    assert skipping.skipped == {reason: len(skipping) - len(kept)}
    assert dataset.index[0].key not in kept
    assert dataset.index[-1].key in kept


@pytest.mark.parametrize(
    "kind", [RefYouTubeVOS, RefDAVIS17, ReasonVOS, LongRVOS, RefSAV], ids=lambda kind: kind.__name__
)
def test_all_that_is_missing_is_named(tmp_path, kind):
    with pytest.raises(DatasetNotFoundError) as caught:
        len(kind(tmp_path))
    for path in kind(tmp_path).files:
        assert f"`{path.relative_to(tmp_path)}`" in str(caught.value)
