"""Predictions as JSON of run-length codes, and as pictures of annotators."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datamodules.masks import decode_rle, encode_rle
from evaluation.predictions import open_predictions
from evaluation.predictions.runs import read_track
from tests.builders import two_squares, write_json
from tests.evaluation.predicted import answers, expected, record, write_results, write_zip

SIZE = (32, 32)
RECORDS = [record(video, str(number)) for video in ("toy/a", "toy/b") for number in range(4)]
NAMES = [f"{time:05d}" for time in range(6)]


@pytest.fixture
def path(tmp_path):
    return write_results(tmp_path / "results.json", answers())


def change(path, key, function):
    content = json.loads(path.read_text())
    content["toy/a"]["0"][key] = function(content["toy/a"]["0"].get(key))
    write_json(path, content)


def read(path, which=None, times=range(6)):
    return open_predictions(path, RECORDS).read(which or record(), times, SIZE)


@pytest.mark.parametrize("frames", [None, NAMES, [f"{name}.jpg" for name in NAMES]], ids=["none", "names", "files"])
def test_results_json(tmp_path, frames):
    path = write_results(tmp_path / "results.json", answers(), **({} if frames is None else {"frames": frames}))
    found = read(path, times=[4, 2])
    assert torch.equal(found.prediction.mask.dense(), expected([0])[[4, 2]])
    assert (found.problems, found.encodings, found.prediction.missing) == ([], {"RLE"}, ())
    assert open_predictions(path, RECORDS).surplus(RECORDS) == []


def test_results_json_whose_frames_are_in_another_order(path):
    change(path, "frames", lambda _: NAMES[::-1])
    assert torch.equal(read(path).prediction.mask.dense(), expected([0]).flip(0))


def test_null_is_an_empty_mask(path):
    change(path, "prediction_masks", lambda masks: [None, *masks[1:]])
    found = read(path)
    assert (found.problems, found.prediction.missing, found.prediction.mask.areas()[0]) == ([], (), 0)


def test_uncompressed_codes(path):
    change(path, "prediction_masks", lambda masks: [{"size": [32, 32], "counts": [1000, 24]}, *masks[1:]])
    assert read(path).prediction.mask.areas()[0] == 24


@pytest.mark.parametrize(
    ("masks", "missing", "problems"),
    [
        (
            lambda masks: masks[:4],
            (4, 5),
            ["expected a mask for each of 6 frames, but got 4", "no mask of `00004`, `00005`: 2 of 6 frames missing"],
        ),
        (lambda masks: [*masks, masks[0]], (), ["expected a mask for each of 6 frames, but got 7"]),
        (
            lambda masks: [encode_rle(torch.ones(16, 32, dtype=torch.bool)), *masks[1:]],
            (0,),
            ["frame 00000: expected 32 x 32 (height x width), but got 16 x 32"],
        ),
        (
            lambda masks: [{"size": [32, 32], "counts": "~~~"}, *masks[1:5], {"size": [32, 32], "counts": [1]}],
            (0, 5),
            [
                "frame 00000: Expected `counts` of an RLE to be COCO's compressed counts, but got a malformed string",
                "frame 00005: Expected the runs of an RLE to fill 32 x 32 pixels, but got 1",
            ],
        ),
        (
            lambda masks: [*masks[:2], {"size": [32, 32]}, "x", *masks[4:]],
            (2, 3),
            [
                "frame 00003: Expected an RLE with `size` [height, width], but got None in a str",
                "frame 00002: Expected `counts` of an RLE to be a string or a list of int, but got NoneType",
            ],
        ),
    ],
    ids=["too few", "too many", "size", "malformed", "no code"],
)
def test_masks_that_cannot_be_used_are_named_and_missing(path, masks, missing, problems):
    change(path, "prediction_masks", masks)
    found = read(path)
    assert found.prediction.missing == missing
    assert found.problems == problems
    usable = [time for time in range(6) if time not in missing]
    assert torch.equal(found.prediction.mask.dense()[usable], expected([0])[usable])
    assert not found.prediction.mask.areas()[list(missing)].any()


def test_frames_that_the_video_does_not_have_are_named(path):
    change(path, "frames", lambda _: ["x", *NAMES[1:]])
    found = read(path)
    assert found.prediction.missing == (0,)
    assert found.problems == [
        "masks of `x`, no frames of the video, not read",
        "no mask of `00000`: 1 of 6 frames missing",
    ]


def test_nothing_for_a_video_or_an_expression_is_named(path):
    content = json.loads(path.read_text())
    del content["toy/b"]
    content["toy/a"] = {"0": {"prediction_masks": None}, "2": []}
    write_json(path, content)
    for which, lost, message in [
        (record("toy/a", "0"), "expression", "expected a list of masks in `prediction_masks`, but got a NoneType"),
        (record("toy/a", "1"), "expression", "expected expression '1' of video 'toy/a' in `results.json`"),
        (record("toy/a", "2"), "expression", "expected a list of masks in `prediction_masks`, but got a NoneType"),
        (record("toy/b", "0"), "video", "expected video 'toy/b' in `results.json`, but it has none"),
    ]:
        found = read(path, which)
        assert found.prediction.lost == lost
        assert len(found.prediction.missing) == 6
        assert found.problems[0].startswith(message)


def test_a_frame_that_is_named_twice_is_missing(path):
    change(path, "frames", lambda _: [*NAMES, "00002.jpg", "x", "x"])
    change(path, "prediction_masks", lambda masks: [*masks, None, None, None])
    found = read(path)
    assert found.prediction.missing == (2,)
    assert found.problems == [
        "masks of `x`, no frames of the video, not read",
        "several masks of `00002`, not read",
        "no mask of `00002`: 1 of 6 frames missing",
    ]


def test_an_expression_that_is_there_twice_is_not_used(path):
    text = path.read_text()
    path.write_text(text.replace('"toy/a": {', '"toy/a": {"0": {"prediction_masks": []}, ', 1))
    found = read(path)
    assert (found.prediction.lost, len(found.prediction.missing)) == ("expression", 6)
    assert found.problems == ["expected expression '0' of video 'toy/a' once, but got several"]
    assert read(path, record("toy/a", "1")).problems == []
    path.write_text(text.replace('"prediction_masks"', '"prediction_masks": [], "prediction_masks"', 1))
    assert read(path).problems == ["expected a list of masks in `prediction_masks`, but got a _Several"]


def test_a_code_with_a_name_twice_is_broken(path):
    path.write_text(path.read_text().replace('"size"', '"size": [1, 1], "size"', 1))
    assert read(path).prediction.missing == (0,)


def test_surplus_of_a_json(tmp_path):
    path = write_results(tmp_path / "x.json", answers() | {("c", "0"): expected([0]), ("toy/a", "9"): expected([0])})
    assert open_predictions(path, RECORDS).surplus(RECORDS) == [
        "`c`: 1 videos that the dataset does not have, not read",
        "video 'toy/a': `9`, no expressions of it, not read",
    ]


def test_an_expression_that_is_nested_too_deeply_is_named(path):
    """It can be decoded where the file is opened, but not everywhere."""
    content = json.loads(path.read_text())
    content["toy/b"]["0"] = "deep"
    path.write_text(json.dumps(content).replace('"deep"', "[" * 700 + "]" * 700))
    predictions = open_predictions(path, RECORDS)

    def further(depth, call, *args):
        return further(depth - 1, call, *args) if depth else call(*args)

    found = further(400, predictions.read, record("toy/b"), range(6), SIZE)
    assert (found.prediction.missing, found.prediction.lost) == ((0, 1, 2, 3, 4, 5), "expression")
    assert len(found.problems) == 1
    assert further(400, predictions.read, record("toy/a"), range(6), SIZE).problems == []
    assert further(400, predictions.surplus, RECORDS) == []


@pytest.mark.parametrize("content", ["[]", "{", "", '{"a": 1, "a": 2}', "\x00", '{"toy/a": ' + "[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"Expected JSON in .*results\.json"):
        open_predictions(tmp_path / "results.json", RECORDS)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner),
    max_leaves=8,
)
codes = st.fixed_dictionaries({"size": st.just([4, 4]) | values, "counts": st.text("01234OPQ~", max_size=9) | values})


@given(st.lists(codes | values, min_size=1, max_size=6))
def test_any_json_is_a_mask_or_named(cells):
    track = read_track(cells, (4, 4))
    assert track.bits.shape == (len(cells), 4, 4)
    areas = track.bits.areas()
    for place, cell in enumerate(cells):
        if cell is None or place in track.broken:
            assert areas[place] == 0
        else:
            assert areas[place] == int(decode_rle(cell).sum())


# --- ViCaS -------------------------------------------------------------------------------------------------------


def vicas_frames(masks):
    """Return what one referral's masks, ``bool (N, T, H, W)``, are in ViCaS' JSON."""
    return [
        {"filename": f"{time:05d}.jpg", "mask_rles": [encode_rle(mask) for mask in masks[:, time]]}
        for time in range(masks.shape[1])
    ]


@pytest.fixture
def vicas(tmp_path):
    content = {"video_id": 7, "pred_caption": None, "pred_lgvis_masks": [vicas_frames(two_squares()), []]}
    write_json(tmp_path / "pred" / "000007.json", content)
    return tmp_path / "pred"


def test_vicas_reads_several_tracks(vicas):
    found = open_predictions(vicas, [record("7")]).read(record("7"), [0, 3, 5], SIZE)
    assert (found.problems, found.encodings) == ([], {"RLE"})
    tracks = torch.stack([track.dense() for track in found.prediction.tracks])
    assert torch.equal(tracks, two_squares()[:, [0, 3, 5]])


@pytest.mark.parametrize("count", [10, 12])
def test_vicas_names_tracks_that_are_not_looked_at(vicas, count):
    masks = two_squares()[:1].expand(count, -1, -1, -1)
    write_json(vicas / "000007.json", {"pred_lgvis_masks": [vicas_frames(masks)]})
    found = open_predictions(vicas, [record("7")]).read(record("7"), range(6), SIZE)
    sentence = "expected at most 10 tracks, but got 12: the first 10 are looked at"
    assert found.problems == ([sentence] if count == 12 else [])
    assert found.prediction.missing == ()


def test_vicas_names_what_is_missing_or_broken(vicas):
    path = vicas / "000007.json"
    content = json.loads(path.read_text())
    frames = content["pred_lgvis_masks"][0]
    frames[1]["mask_rles"][0]["counts"] = "~"
    frames[2]["mask_rles"].pop()
    del frames[4]
    write_json(path, content)
    (vicas / "000008.json").write_text("{")
    records = [record("7"), record("7", "1"), record("7", "2"), record("8"), record("9")]
    predictions = open_predictions(vicas, records)
    found = predictions.read(records[0], range(6), SIZE)
    assert found.prediction.missing == (1, 2, 4)
    assert [sentence[:30] for sentence in found.problems] == [
        "frame 00001: Expected `counts`",
        "frame 00002: expected 2 tracks",
        "no masks of `00004`: 1 of 6 fr",
    ]
    for track in found.prediction.tracks:
        assert not track.areas()[[1, 2, 4]].any()
    nothing = predictions.read(records[1], range(6), SIZE)
    assert (nothing.prediction.lost, len(nothing.prediction.missing)) == (None, 6)
    for which, lost in zip(records[2:], ("expression", "expression", "video"), strict=True):
        assert predictions.read(which, range(6), SIZE).prediction.lost == lost
    assert predictions.surplus(records[:3]) == ["`000008.json`: 1 files of no video of the dataset, not read"]


def test_vicas_names_what_is_nested_too_deeply(vicas):
    (vicas / "000008.json").write_text('{"pred_lgvis_masks": ' + "[" * 100_000)
    found = open_predictions(vicas, [record("8")]).read(record("8"), range(6), SIZE)
    assert (found.prediction.lost, len(found.prediction.missing)) == ("expression", 6)
    assert found.problems == [
        "`000008.json`: expected referral 0 with masks, but got: values that are nested too deeply"
    ]


# --- annotators --------------------------------------------------------------------------------------------------


@pytest.fixture
def annotators(tmp_path):
    """Palette pictures of two objects: annotator k names them as they are, moved by k."""
    late, mover = two_squares()[1], two_squares()[0]
    for number in range(4):
        folder = tmp_path / "tree" / f"anno_{number}" / "dogs"
        folder.mkdir(parents=True)
        for time in range(6):
            labels = torch.where(late[time], 2, mover[time].int()).roll(number, dims=1)
            picture = Image.fromarray(labels.numpy().astype(np.uint8)).convert("P")
            picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            picture.save(folder / f"{time:05d}.png")
    return tmp_path / "tree"


@pytest.mark.parametrize("archive", [False, True], ids=["folder", "zip"])
def test_annotators(tmp_path, annotators, archive):
    path = write_zip(tmp_path / "x.zip", annotators) if archive else annotators
    records = [record("dogs", str(number)) for number in range(8)]
    predictions = open_predictions(path, records)
    for each in records:
        found = predictions.read(each, range(6), SIZE)
        number = int(each.expression_id)
        target = two_squares()[number // 4].roll(number % 4, dims=2)
        assert torch.equal(found.prediction.mask.dense(), target), number
        assert found.encodings == {"palette"}
    assert predictions.surplus(records) == []
    assert predictions.setting()["layout"] == "anno_<k>/<video>/<frame>.png"


def test_annotators_need_indices_and_lose_what_is_not_there(annotators):
    Image.new("RGB", SIZE, (128, 0, 0)).save(annotators / "anno_1/dogs/00002.png")
    for file in (annotators / "anno_2/dogs").iterdir():
        file.unlink()
    predictions = open_predictions(annotators, [record("dogs"), record("cats")])
    coloured = predictions.read(record("dogs", "1"), range(6), SIZE)
    assert coloured.prediction.missing == (2,)
    assert coloured.problems == ["`anno_1/dogs/00002.png`: expected a palette or gray picture, but got mode 'RGB'"]
    assert predictions.read(record("dogs", "2"), range(6), SIZE).prediction.lost == "expression"
    assert predictions.read(record("cats", "2"), range(6), SIZE).prediction.lost == "video"
