"""What is wrong with data: an error that names file and record, or a sample that is left out, counted and logged."""

import logging
import shutil

import pytest
from PIL import Image

from datamodules import BadSampleError, OwnVideos, ReVOS
from tests.builders import edit_json, write_own_videos, write_revos


def _truncate(path):
    path.write_bytes(path.read_bytes()[:300])


def _resize(path):
    Image.new("RGB", (16, 32)).save(path)


def _meta(root, change):
    edit_json(root / "meta_expressions_train_.json", lambda meta: change(meta["videos"]["toy/a"]))


def _mask(root, rle):
    edit_json(root / "mask_dict.json", lambda masks: masks["0"].__setitem__(2, rle))


#: how to break a ReVOS tree: function of the root, the reason, and what the message names
DAMAGES = {
    "unknown annotation": (
        lambda root: _meta(root, lambda video: video["expressions"]["0"].update(anno_id=[77])),
        "unknown annotation",
        r"'toy/a/0' in `.*meta_expressions_train_.json`: expected annotation '77' in `.*mask_dict.json`",
    ),
    "mask of another size": (
        lambda root: _mask(root, {"size": [8, 8], "counts": [64]}),
        "mask size",
        r"toy/a/0, object 0, time 2: expected .* 32 x 32 \(height x width\), but got 8 x 8",
    ),
    "mask that is no RLE": (
        lambda root: _mask(root, {"size": [32, 32], "counts": "zz"}),
        "malformed mask",
        r"toy/a/0.*time 2",
    ),
    "too few masks": (
        lambda root: edit_json(root / "mask_dict.json", lambda masks: masks["0"].pop()),
        "annotation length",
        r"toy/a/0.*each of the 6 frames, but got 5",
    ),
    "unreadable frame": (
        lambda root: _truncate(root / "JPEGImages/toy/a/00002.jpg"),
        "unreadable frame",
        r"'toy/a/0'.*JPEGImages/toy/a/00002.jpg",
    ),
    "frame of another size": (
        lambda root: _resize(root / "JPEGImages/toy/a/00002.jpg"),
        "frame size",
        r"'toy/a/0'.*32 x 32.* but got 32 x 16 in `.*JPEGImages/toy/a/00002.jpg",
    ),
    "missing frame": (
        lambda root: (root / "JPEGImages/toy/a/00002.jpg").unlink(),
        "missing frame",
        r"'toy/a/0'.*JPEGImages/toy/a/00002.jpg`, but there is no such file",
    ),
    "missing video": (
        lambda root: shutil.rmtree(root / "JPEGImages/toy/a"),
        "missing frame",
        r"'toy/a/0'.*JPEGImages/toy/a/00000.jpg",
    ),
    "empty video": (lambda root: _meta(root, lambda video: video.update(frames=[])), "empty video", r"'toy/a/0'"),
    "frame outside": (
        lambda root: _meta(root, lambda video: video["frames"].__setitem__(0, "../../../secret")),
        "unsafe name",
        r"'toy/a/0'.*'../../../secret",
    ),
    "NUL in a frame": (
        lambda root: _meta(root, lambda video: video["frames"].__setitem__(0, "0000\0")),
        "unsafe name",
        r"'toy/a/0'.*0000",
    ),
}


def _read(sample):
    sample.frames.stack()
    sample.masks.stack()


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_sample_is_an_error(tmp_path, damage):
    break_it, reason, message = DAMAGES[damage]
    break_it(write_revos(tmp_path))
    dataset = ReVOS(tmp_path)
    with pytest.raises(BadSampleError, match=message) as caught:
        _read(dataset[0])
    assert caught.value.reason == reason
    _read(dataset[3])  # the other video


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_sample_is_skipped(tmp_path, damage, caplog):
    break_it, reason, _ = DAMAGES[damage]
    break_it(write_revos(tmp_path))
    dataset = ReVOS(tmp_path, on_bad_sample="skip")
    with caplog.at_level(logging.WARNING):
        samples = [dataset[index] for index in range(6)]
    kept = [sample.key for sample in samples if sample is not None]
    assert kept[-3:] == ["toy/b/0", "toy/b/1", "toy/b/2"]
    assert "toy/a/0" not in kept
    assert dataset.skipped == {reason: 6 - len(kept)}
    assert len(caplog.records) == 1
    for sample in samples:
        if sample is not None:
            _read(sample)


@pytest.mark.parametrize("name", ["../toy/a", "/toy/a", "toy/../../a", "toy\0/a"])
def test_unsafe_video_name(tmp_path, name):
    write_revos(tmp_path)
    path = tmp_path / "meta_expressions_train_.json"
    edit_json(path, lambda meta: meta["videos"].update({name: meta["videos"].pop("toy/a")}))
    dataset = ReVOS(tmp_path)
    with pytest.raises(BadSampleError, match=r"without `\.\.`") as caught:
        dataset[3]
    assert caught.value.reason == "unsafe name"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(None, "Expected JSON in", id="not JSON"),
        pytest.param(lambda meta: meta.pop("videos"), "`videos`", id="no videos"),
        pytest.param(lambda meta: meta["videos"]["toy/a"].update(frames=3), "'toy/a'", id="frames"),
        pytest.param(lambda meta: meta["videos"]["toy/a"].update(frames=["0", "0"]), "each once", id="a frame twice"),
        pytest.param(
            lambda meta: meta["videos"]["toy/a"]["expressions"]["0"].update(anno_id="10"),
            "no list",
            id="a text of names",
        ),
        pytest.param(lambda meta: _said(meta).pop("exp"), "expression '1' of 'toy/a'", id="no sentence"),
        pytest.param(lambda meta: _said(meta).update(type_id=3), "expression '1' of 'toy/a'", id="unknown type"),
    ],
)
def test_malformed_file(tmp_path, change, message):
    path = write_revos(tmp_path) / "meta_expressions_train_.json"
    if change is None:
        path.write_text("{")
    else:
        edit_json(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        len(ReVOS(tmp_path, on_bad_sample="skip"))
    assert path.name in str(caught.value)


@pytest.mark.parametrize("name", ["mask_dict.json", "mask_dict_foreground.json"])
@pytest.mark.parametrize("text", ['{"0": [', "[]", '{"0": [], "0": []}'], ids=["truncated", "a list", "a name twice"])
def test_malformed_masks(tmp_path, name, text):
    (write_revos(tmp_path) / name).write_text(text)
    with pytest.raises(ValueError, match=rf"Expected JSON in `.*/{name}`, one object, but got"):
        len(ReVOS(tmp_path, on_bad_sample="skip"))


def _said(meta):
    return meta["videos"]["toy/a"]["expressions"]["1"]


def test_no_expressions(tmp_path):
    write_revos(tmp_path)
    edit_json(tmp_path / "meta_expressions_train_.json", lambda meta: meta.update(videos={}))
    with pytest.raises(ValueError, match=r"at least one expression of \['referring', 'reasoning'\] in split 'train'"):
        len(ReVOS(tmp_path))


#: how to break the JSON of own videos: change of the video "folder", reason, what the message names
OWN_DAMAGES = {
    "outside": (lambda video: video.update(frames="../clips"), "unsafe name", r"\.\./clips"),
    "no folder": (lambda video: video.update(frames="clips/none"), "missing frame", "clips/none"),
    "no pictures": (lambda video: video.update(frames="masks"), "empty video", "folder/0"),
    "unknown object": (lambda video: video["objects"].pop("mover"), "unknown annotation", r"'mover'.*\['late'\]"),
    "masks are a number": (lambda video: video["objects"].update(mover=3), "malformed mask", "'mover'.* got 3"),
    "masks outside": (lambda video: video["objects"].update(mover={"folder": "/etc"}), "unsafe name", "/etc"),
    "no masks": (lambda video: video["objects"].update(mover={"folder": "m"}), "missing masks", "folder `.*m` with"),
}


@pytest.mark.parametrize("damage", OWN_DAMAGES)
def test_bad_own_video(tmp_path, damage):
    change, reason, message = OWN_DAMAGES[damage]
    write_own_videos(tmp_path)
    edit_json(tmp_path / "videos.json", lambda content: change(content["videos"]["folder"]))
    dataset = OwnVideos(tmp_path)
    assert dataset[3].key == "film/0"
    with pytest.raises(BadSampleError, match=message) as caught:
        dataset[0]
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("videos"), "`videos`"),
        (lambda content: content["videos"]["film"].pop("frames"), "'film'"),
        (lambda content: content["videos"]["film"]["expressions"].append("a cat"), "expression 3 of 'film'"),
    ],
)
def test_malformed_own_file(tmp_path, change, message):
    write_own_videos(tmp_path)
    edit_json(tmp_path / "videos.json", change)
    with pytest.raises(ValueError, match=message):
        len(OwnVideos(tmp_path))
