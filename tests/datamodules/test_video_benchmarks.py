"""What each benchmark of videos has of its own: splits, names, groups, void, frames that are scored."""

import json

import pytest
import torch

from datamodules import (
    DatasetNotFoundError,
    LongRVOS,
    MeViS,
    MeViSv2,
    ReasonVOS,
    RefDAVIS17,
    RefSAV,
    RefYouTubeVOS,
    StridedThroughAnchor,
    VideoRecord,
)
from tests.builders import edit_json, two_squares, write_json
from tests.layouts_video import (
    write_long_rvos,
    write_mevis_v2,
    write_reason_vos,
    write_ref_davis,
    write_ref_sav,
    write_ref_youtube_vos,
)


def test_ref_youtube_vos_leaves_the_test_out_of_valid(tmp_path):
    write_ref_youtube_vos(tmp_path)
    stored = json.loads((tmp_path / "meta_expressions/valid/meta_expressions.json").read_text())["videos"]
    assert set(stored) == {"c", "d", "e"}
    valid = RefYouTubeVOS(tmp_path, "valid")
    assert [record.key for record in valid.index] == [f"{video}/{number}" for video in "cd" for number in range(3)]
    assert valid[0].masks is None
    assert [record.video_id for record in RefYouTubeVOS(tmp_path, "test").index] == ["e"] * 3
    (tmp_path / "meta_expressions/test/meta_expressions.json").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"`meta_expressions/test/meta_expressions.json`"):
        len(RefYouTubeVOS(tmp_path, "valid"))


def test_ref_youtube_vos_of_the_true_size(tmp_path):
    """507 videos in the file of valid, 305 of them of the test: 202 remain."""
    video = {"frames": ["00000"], "expressions": {"0": {"exp": "a square"}}}
    for split, count in (("valid", 507), ("test", 305)):
        videos = {f"{number:03d}": video for number in range(count)}
        write_json(tmp_path / "meta_expressions" / split / "meta_expressions.json", {"videos": videos})
    (tmp_path / "valid/JPEGImages").mkdir(parents=True)
    assert len(RefYouTubeVOS(tmp_path, "valid")) == 202


@pytest.mark.parametrize(("expression", "place"), [("0", (0, 1)), ("3", (3, 1)), ("4", (0, 2)), ("11", (3, 3))])
def test_ref_davis_place(expression, place):
    assert RefDAVIS17.place(VideoRecord("a", expression, "", ())) == place


def test_ref_davis_objects_and_void(tmp_path):
    write_ref_davis(tmp_path)
    dataset = RefDAVIS17(tmp_path, "valid")
    record, sample = dataset.index[6], dataset[6]
    assert record.key == "dogs-jump/6"
    assert record.annotation == RefDAVIS17.place(record)[1] == 2
    assert torch.equal(sample.masks.stack()[0], two_squares()[1])
    void = sample.void.stack()
    assert void[:, :2].all()
    assert not void[:, 2:].any()
    assert torch.equal(sample.select([4, 1]).void.stack(), void[[4, 1]])


def test_ref_davis_as_derived_by_visa(tmp_path):
    """The tracks of the JSON, which number expressions as text over sorted videos, are the pictures' masks."""
    write_ref_davis(tmp_path)
    # ten expressions and more sort otherwise as text than as numbers
    for split in ("train", "valid"):
        path = tmp_path / f"meta_expressions/{split}/meta_expressions.json"

        def twelve(content):
            for video in content["videos"].values():
                video["expressions"] |= {str(n): {"exp": "again", "obj_id": "1"} for n in range(8, 12)}

        edit_json(path, twelve)
        videos = json.loads(path.read_text())["videos"]
        order = [(name, number) for name in sorted(videos) for number in sorted(videos[name]["expressions"])]
        assert order[1][1] == "1"
        assert order[2][1] == "10"
        tracks = json.loads((tmp_path / split / "mask_dict.json").read_text())
        kinds = {"1": tracks["0"], "2": tracks["4"]}
        write_json(
            tmp_path / split / "mask_dict.json",
            {str(n): kinds[videos[name]["expressions"][number]["obj_id"]] for n, (name, number) in enumerate(order)},
        )
    pictures, derived = RefDAVIS17(tmp_path, "valid"), RefDAVIS17(tmp_path, "valid", layout="mask_dict")
    assert [record.key for record in pictures.index] == [record.key for record in derived.index]
    for stored, tracked in zip(pictures, derived, strict=True):
        assert torch.equal(stored.masks.stack(), tracked.masks.stack())
        assert tracked.void is None


def test_ref_davis_opens_no_pickle(tmp_path):
    write_ref_davis(tmp_path)
    (tmp_path / "valid/mask_dict.json").rename(tmp_path / "valid/mask_dict.pkl")
    with pytest.raises(DatasetNotFoundError, match=r"expected `valid/mask_dict.json`"):
        len(RefDAVIS17(tmp_path, "valid", layout="mask_dict"))
    with pytest.raises(ValueError, match="'palette' or 'mask_dict', but got 'pickle'"):
        RefDAVIS17(tmp_path, layout="pickle")


@pytest.mark.parametrize(
    ("written", "read"), [("clasic-car", "classic-car"), ("dog-scale", "dogs-scale"), ("motor-bike", "motorbike")]
)
def test_ref_davis_names_are_mended(tmp_path, written, read):
    write_ref_davis(tmp_path, videos=(read, "blackswan"))
    path = tmp_path / "meta_expressions/train/meta_expressions.json"
    edit_json(path, lambda content: content["videos"].update({written: content["videos"].pop(read)}))
    dataset = RefDAVIS17(tmp_path)
    assert {record.video_id for record in dataset.index} == {read, "blackswan"}
    assert all(sample.masks.stack().any() for sample in dataset)


def test_reason_vos(tmp_path):
    write_reason_vos(tmp_path)
    dataset = ReasonVOS(tmp_path)
    keys = ["MOSE_00a_7/0", "MOSE_00a_8/1", "MOSE_00a_7/2", "VIPSeg_b_1_7/0", "VIPSeg_b_1_8/1", "VIPSeg_b_1_7/2"]
    assert [record.key for record in dataset.index] == keys
    assert [record.group for record in dataset.index] == ["short", "long", "long"] * 2
    assert [record.scored for record in dataset.index[:2]] == [(0, 1, 2, 3, 4, 5), (1, 3, 5)]
    late = dataset[1]
    assert late.scored == [1, 3, 5]
    assert late.num_frames == 6
    seen = two_squares()[1].clone()
    seen[[0, 2, 4]] = False  # not annotated there
    assert torch.equal(late.masks.stack()[0], seen)
    assert len(ReasonVOS(tmp_path, groups=["short"])) == 2


def test_scored_frames_follow_selections(tmp_path):
    write_reason_vos(tmp_path)
    sample = ReasonVOS(tmp_path)[1]
    chosen = sample.select([5, 0, 1])
    assert chosen.scored == [0, 2]
    assert chosen.select([2]).scored == [0]
    selected = ReasonVOS(tmp_path, selection=StridedThroughAnchor(num_frames=2, top=1))[1]
    assert selected.frame_ids == [0, 3]  # the anchor is the first frame where the object is annotated and seen
    assert selected.scored == [1]


def test_long_rvos(tmp_path):
    write_long_rvos(tmp_path)
    dataset = LongRVOS(tmp_path)
    assert [record.group for record in dataset.index] == ["dynamic", "hybrid", "static"] * 2
    assert not (tmp_path / "train/Annotations/a/1/00000.png").exists()
    assert torch.equal(dataset[1].masks.stack()[0], two_squares()[1])
    assert LongRVOS(tmp_path, "test")[0].masks is None
    assert len(LongRVOS(tmp_path, "valid", groups=["static", "hybrid"])) == 4


def test_ref_sav(tmp_path):
    dataset = RefSAV(write_ref_sav(tmp_path))
    assert [record.group for record in dataset.index] == ["long", "short", "long"] * 2


def test_mevis_v2(tmp_path):
    write_mevis_v2(tmp_path)
    shown = MeViSv2(tmp_path, "valid_u")
    assert [record.group for record in shown.index] == [None, None, None, "absent"] * 2
    absent = shown[3]
    assert absent.meta["group"] == "absent"
    assert absent.masks.stack().shape == (0, 6, 32, 32)
    hidden = MeViSv2(tmp_path, "valid")
    assert [record.group for record in hidden.index] == [None] * 6
    with pytest.raises(DatasetNotFoundError, match=r"`valid_u/meta_expressions.json`"):
        len(MeViS(tmp_path, "valid_u"))
    assert len(MeViSv2(tmp_path, "valid_u", expressions="meta_expressions_v2.json")) == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda root: RefYouTubeVOS(root, "dev"),
            r"`split` of RefYouTubeVOS .*'train', 'valid', 'test'\].* got \['dev'",
        ),
        (lambda root: RefDAVIS17(root, "test"), r"`split` of RefDAVIS17 .* got \['test'\]"),
        (lambda root: LongRVOS(root, "val"), r"`split` of LongRVOS .* got \['val'\]"),
        (lambda root: LongRVOS(root, groups=["static+dynamic"]), r"`groups` of LongRVOS .*'hybrid'\].*static\+dynamic"),
        (lambda root: ReasonVOS(root, groups=["sentence"]), r"`groups` of ReasonVOS .*\['short', 'long'\].*'sentence'"),
        (lambda root: RefSAV(root, groups=["medium"]), r"`groups` of RefSAV .*\['long', 'short'\].*'medium'"),
    ],
)
def test_unknown_splits_and_groups(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path)
