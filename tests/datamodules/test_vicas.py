"""ViCaS: several objects, frames that people annotated, frames from films."""

import shutil

import pytest
import torch

from datamodules import BadSampleError, DatasetNotFoundError, UniformSelection, ViCaS
from tests.builders import edit_json, two_squares, write_json, write_mp4
from tests.layouts_other import write_vicas


def edit(root, change):
    edit_json(root / "annotations" / "v1.0" / "000002.json", change)


def test_records(tmp_path):
    dataset = ViCaS(write_vicas(tmp_path), "val")
    assert [record.key for record in dataset.index] == [
        f"{video}/{each}" for video in ("000002", "000017") for each in "012"
    ]
    assert dataset.index[0].frame_names is dataset.index[5].frame_names
    sample = dataset[2]
    assert sample.scored == [0, 3]
    assert sample.select([5, 3]).scored == [1]
    assert ViCaS(tmp_path, "val", UniformSelection(3))[2].scored == [0]  # frames 0, 2, 5
    assert "group" not in sample.meta


def test_masks_follow_the_names_of_frames_and_the_tracks_of_each(tmp_path):
    """Whatever their order in the file."""
    write_vicas(tmp_path)

    def shuffle(content):
        content["segmentations"].reverse()
        for frame in content["segmentations"]:
            frame["track_ids"].reverse()
            frame["mask_rles"].reverse()
        content["object_referrals"][2]["track_ids"] = [2, 1]

    edit(tmp_path, shuffle)
    assert torch.equal(ViCaS(tmp_path)[2].masks.stack(), two_squares().flip(0))
    assert ViCaS(tmp_path)[2].scored == [0, 3]


def test_versions_and_splits(tmp_path):
    write_vicas(tmp_path)
    write_json(tmp_path / "splits" / "v0.1" / "test.json", [17])
    assert {record.video_id for record in ViCaS(tmp_path, "test", version="v0.1").index} == {"000017"}
    assert len(ViCaS(tmp_path, "test")) == 6
    for arguments in ({"split": "valid"}, {"version": "v2"}):
        with pytest.raises(ValueError, match=rf"Expected `{next(iter(arguments))}` of ViCaS"):
            ViCaS(tmp_path, **arguments)


def test_films(tmp_path):
    write_vicas(tmp_path)
    shutil.rmtree(tmp_path / "video_frames")
    with pytest.raises(DatasetNotFoundError, match="`video_frames`"):
        len(ViCaS(tmp_path))
    for video in ("000002", "000017"):
        write_mp4(tmp_path / "videos" / f"{video}_Fails_of_the_Week.mp4", two_squares())
    for sample in ViCaS(tmp_path):
        seen = sample.frames.stack().float().mean(dim=1) > 140
        assert (seen ^ two_squares().any(dim=0)).float().mean() < 0.02
    write_mp4(tmp_path / "videos" / "000002_Fails_of_the_Week.mp4", two_squares(t=4))
    with pytest.raises(BadSampleError, match=r"'000002/0': expected the 6 frames of `.*000002.json` in `.*but got 4"):
        ViCaS(tmp_path)[0]


def test_missing_annotations_are_listed(tmp_path):
    write_vicas(tmp_path)
    for video in ("000002", "000017"):
        (tmp_path / "annotations" / "v1.0" / f"{video}.json").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"`annotations/v1.0/000002.json`, `annotations/v1.0/000017.json`"):
        len(ViCaS(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("filename"), "`filename` of `.*000002.json`"),
        (lambda content: content.pop("object_referrals"), "`object_referrals` of `.*000002.json` to be list"),
        (lambda content: content["object_referrals"][1].pop("prompt"), "`prompt` of referral 1 in `.*000002.json`"),
        (
            lambda content: content["object_referrals"][1].update(track_ids=1),
            "`track_ids` of referral 1 in `.*000002.json` to be list, but got 1",
        ),
        (
            lambda content: content["object_referrals"][1].update(track_ids=[[1]]),
            r"`track_ids` of referral 1 in `.*000002.json` to be a list of int, but got \[1\]",
        ),
        (
            lambda content: content["segmentations"][1].update(track_ids=["1"]),
            "`track_ids` of a frame of .*list of int",
        ),
        (lambda content: content["segmentations"][1].pop("is_gt"), "`is_gt` of a frame of .*000002.json"),
        (
            lambda content: content["segmentations"][1]["mask_rles"].pop(),
            "`mask_rles` of a frame of .*000002.json` to have one mask for each of 1 `track_ids`, but got 0",
        ),
    ],
)
def test_malformed_files(tmp_path, change, message):
    write_vicas(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        len(ViCaS(tmp_path))


def test_malformed_split(tmp_path):
    write_vicas(tmp_path)
    write_json(tmp_path / "splits" / "v1.0" / "train.json", ["../2"])
    with pytest.raises(ValueError, match=r"train.json` to list numbers of videos, but got \['../2'\]"):
        len(ViCaS(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["segmentations"][1].update(filename="../../x.jpg"), r"without `..`.*'../../x'"),
        (lambda content: content["object_referrals"][0].update(track_ids=[7]), "expected object 7 in `segmentations`"),
        (
            lambda content: content["segmentations"][1]["mask_rles"][0].update(size=[8, 8]),
            r"000002/0, object 0, time 1: expected .* 32 x 32 .* but got 8 x 8",
        ),
    ],
    ids=["unsafe frame", "unknown track", "mask of another size"],
)
def test_bad_samples(tmp_path, change, message):
    write_vicas(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(BadSampleError, match=message):
        ViCaS(tmp_path)[0]


def test_unsafe_film(tmp_path):
    write_vicas(tmp_path)
    (tmp_path / "video_frames").rename(tmp_path / "videos")
    edit(tmp_path, lambda content: content.update(filename="../../film.mp4"))
    with pytest.raises(BadSampleError, match=r"'000002/0'.*without `..`.*'../../film.mp4'"):
        ViCaS(tmp_path)[0]
