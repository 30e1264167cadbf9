"""GroundMoRe: when the target counts, which frames are scored, and the published numbering of frames."""

import os
import shutil

import pytest
import torch

from datamodules import BadSampleError, GroundMoRe, UniformSelection
from datamodules.loader import DrawSampler, VideoLoader
from tests.builders import edit_json, two_squares, write_json
from tests.layouts_other import write_groundmore

CLIP = "-yt_a_0140_0150"


def edit(root, change, file="trainval_v2.json"):
    edit_json(root / file, lambda content: change(content["videos"]))


def act(root, start, end):
    """Let the first action last from ``start`` to before ``end``."""
    edit(root, lambda videos: videos[CLIP]["questions"]["0"].update(action_start=start, action_end=end))


@pytest.mark.parametrize(
    ("start", "end", "begins", "ends"),
    [
        ("1:40", "1:50", 0, 60),
        ("1:43", "1:45", 18, 30),
        ("0:01:43", "0:01:45", 18, 30),
        ("1:49", "2:30", 54, 60),  # goes on after the clip
        ("1:30", "1:41", 0, 6),  # began before it
        ("1:45", "1:45", 0, 0),
    ],
)
def test_the_target_is_there_while_it_acts(tmp_path, start, end, begins, ends):
    """6 frames a second since the clip began, at 1:40 of the film, the last one excluded."""
    write_groundmore(tmp_path, t=60, size=160)
    act(tmp_path, start, end)
    target = GroundMoRe(tmp_path)[0].target()
    expected = two_squares(t=60, size=160)[0]
    expected[:begins] = False
    expected[ends:] = False
    assert torch.equal(target, expected)


@pytest.mark.parametrize("official", [False, True])
def test_twenty_frames_are_scored(tmp_path, official):
    write_groundmore(tmp_path, t=60, size=160)
    sample = GroundMoRe(tmp_path, "test", official=official)[0]
    assert sample.scored == [number * 59 // 19 for number in range(20)]
    assert sample.masks.stack(sample.scored).shape == (1, 20, 160, 160)


def test_a_short_clip_is_scored_whole_and_officially_some_frames_twice(tmp_path):
    write_groundmore(tmp_path)
    official = GroundMoRe(tmp_path, official=True)[0].scored
    assert official == sorted(official)
    assert official == [number * 5 // 19 for number in range(20)]
    assert GroundMoRe(tmp_path)[0].scored == list(range(6))


def test_scored_frames_follow_selections_and_loaders(tmp_path):
    write_groundmore(tmp_path, t=60, size=160)
    dataset = GroundMoRe(tmp_path, selection=UniformSelection(10))
    times = [number * 59 // 9 for number in range(10)]
    expected = [place for place, time in enumerate(times) if time in {number * 59 // 19 for number in range(20)}]
    assert 0 < len(expected) < 10
    for workers in (0, 1):
        (batch,) = VideoLoader([dataset], DrawSampler(6, shuffle=False), batch_size=6, num_workers=workers)
        assert [sample.scored for sample in batch] == [expected] * 6
    assert batch[0].select([9, 1, 0]).scored == [place for place, time in enumerate([9, 1, 0]) if time in expected]
    short = GroundMoRe(write_groundmore(tmp_path / "short"), official=True)[0]
    assert short.select([5, 0]).scored == [0, 1, 1, 1, 1]  # the last frame counts once, the first four times


def test_the_published_order_is_that_of_the_folder(tmp_path, monkeypatch):
    """Frames as the folder lists them, masks by number."""
    write_groundmore(tmp_path)
    listed = [f"frame_{time:06d}.jpg" for time in (4, 0, 5, 1, 3, 2)]
    monkeypatch.setattr(os, "listdir", lambda folder: [*listed, "Thumbs.db"])
    sorted_, official = GroundMoRe(tmp_path)[0], GroundMoRe(tmp_path, official=True)[0]
    assert official.meta["frame_names"] == [name.removesuffix(".jpg") for name in listed]
    assert sorted_.meta["frame_names"] == sorted(official.meta["frame_names"])
    assert torch.equal(official.masks.stack(), sorted_.masks.stack())
    assert torch.equal(official.frames.stack(), sorted_.frames.stack([4, 0, 5, 1, 3, 2]))


def test_masks_are_called_as_their_frames_and_officially_by_number(tmp_path):
    """Some clips have other names, whose masks the published evaluator does not find."""
    write_groundmore(tmp_path, name="{:07d}")
    assert torch.equal(GroundMoRe(tmp_path)[2].masks.stack(), two_squares())
    assert not GroundMoRe(tmp_path, official=True)[2].target().any()


def test_groups_and_versions(tmp_path):
    write_groundmore(tmp_path)
    edit(tmp_path, lambda videos: videos.popitem(), file="trainval.json")
    groups = ["causal", "sequential", "descriptive"]
    assert [sample.meta["group"] for sample in GroundMoRe(tmp_path)] == groups * 2
    assert [sample.meta["group"] for sample in GroundMoRe(tmp_path, version="v1")] == groups
    assert len(GroundMoRe(tmp_path, "test", groups=["causal"])) == 2
    for arguments in ({"split": "valid"}, {"version": "v3"}, {"groups": ["hard"]}):
        with pytest.raises(ValueError, match=rf"Expected `{next(iter(arguments))}` of GroundMoRe"):
            GroundMoRe(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("question", None),
        ("q_type", "Spatial"),
        ("obj_id", "one"),
        ("obj_id", 1.5),
        ("action_start", "early"),
        ("action_end", 100),
    ],
)
def test_malformed_questions(tmp_path, field, value):
    write_groundmore(tmp_path)
    edit(tmp_path, lambda videos: videos["-yt_a_0140_0141"]["questions"]["1"].update({field: value}))
    with pytest.raises(ValueError, match=rf"`{field}` of question '1' of '-yt_a_0140_0141' in `.*trainval_v2.json`"):
        len(GroundMoRe(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "`.*trainval_v2.json` to hold an object with `videos`"),
        ({"videos": {"a_0140_0141": {}}}, "`questions` of video 'a_0140_0141' in `.*trainval_v2.json`"),
        (
            {
                "videos": {
                    "film": {
                        "questions": {
                            "0": {
                                "question": "who?",
                                "obj_id": "1",
                                "q_type": "Causal",
                                "action_start": "1:00",
                                "action_end": "1:01",
                            }
                        }
                    }
                }
            },
            "the name, of question '0' of 'film' in `.*trainval_v2.json`, to be a time",
        ),
    ],
    ids=["no videos", "no questions", "a clip without times"],
)
def test_malformed_files(tmp_path, content, message):
    write_groundmore(tmp_path)
    write_json(tmp_path / "trainval_v2.json", content)
    with pytest.raises(ValueError, match=message):
        len(GroundMoRe(tmp_path))


def test_bad_videos(tmp_path):
    write_groundmore(tmp_path)
    shutil.rmtree(tmp_path / "annotations" / "-yt_a_0140_0141")
    outside = "../../etc_0140_0141"
    edit(tmp_path, lambda videos: videos.update({outside: videos["b_0140_0141"]}))
    dataset = GroundMoRe(tmp_path)
    with pytest.raises(BadSampleError, match=r"frames in `.*-yt_a_0140_0141/images`, but there are none"):
        dataset[0]
    with pytest.raises(BadSampleError, match=rf"'{outside}/0'.*without `..`"):
        dataset[6]
    dataset.on_bad_sample = "skip"
    assert [dataset[index] is None for index in range(9)] == [True] * 3 + [False] * 3 + [True] * 3
    assert dataset.skipped == {"missing frame": 3, "unsafe name": 3}
