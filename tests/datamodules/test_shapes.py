"""The toy benchmark on disk: true trees, true conversations, and the same bytes for the same seed."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import ConversationDataset, DatasetNotFoundError, MeViS, ReVOS, VideoSample
from datamodules.canvas import to_canvas
from datamodules.masks import decode_rle
from datamodules.sampling import StridedThroughAnchor
from datamodules.shapes import write_shapes

SIZE = (96, 128)


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("easy")
    write_shapes(root, videos=12, valid_videos=2, preset="easy")
    return root


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("full")
    write_shapes(root, videos=30, valid_videos=5, preset="full", size=SIZE)
    return root


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def digests(root: Path) -> dict[str, str]:
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_revos_reads_it(full: Path) -> None:
    foregrounds = load(full / "mask_dict_foreground.json")
    for split, count in (("train", 30), ("valid", 5)):
        dataset = ReVOS(full, split=split)
        samples = [dataset[index] for index in range(0, len(dataset), 4)]
        assert len({record.video_id for record in dataset.index}) == count
        assert all(sample.video_id.startswith(f"shapes/{split}/") for sample in samples)
        assert {sample.meta["group"] for sample in samples} <= {"referring", "reasoning", "absent"}
        assert all(sample.size == SIZE and sample.num_frames == 6 for sample in samples)
        for sample in samples[:10]:
            stored = foregrounds[sample.video_id]
            union = torch.stack([decode_rle(rle) for rle in stored["masks_rle"]])
            assert torch.equal(sample.foreground.stack(), union)
            assert not (sample.target() & ~union).any()
            assert stored["foreground_ratio"] == pytest.approx(union.float().mean(dim=(1, 2)).tolist(), abs=1e-6)


def test_counts_are_what_is_on_disk(tmp_path: Path) -> None:
    seen = []
    counts = write_shapes(tmp_path, videos=12, valid_videos=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 15) for done in range(1, 16)]
    for split in ("train", "valid"):
        found = load(tmp_path / f"meta_expressions_{split}_.json")["videos"]
        kinds = [said["type_id"] for video in found.values() for said in video["expressions"].values()]
        assert counts[f"{split}/videos"] == len(found)
        assert [counts.get(f"{split}/{group}", 0) for group in ("referring", "reasoning", "absent")] == [
            kinds.count(kind) for kind in range(3)
        ]
    assert counts["train/conversations"] == len(load(tmp_path / "conversations.json"))


def test_mevis_reads_it(tmp_path: Path) -> None:
    counts = write_shapes(tmp_path, videos=4, valid_videos=2, layout="mevis")
    assert not any("absent" in name for name in counts)
    for split, hidden in (("train", False), ("valid_u", False), ("valid", True)):
        dataset = MeViS(tmp_path, split=split)
        assert len({record.video_id for record in dataset.index}) == (4 if split == "train" else 2)
        assert (dataset[0].masks is None) == hidden
        said = load(tmp_path / split / "meta_expressions.json")["videos"][dataset[0].video_id]["expressions"]["0"]
        assert set(said) == ({"exp"} if hidden else {"exp", "obj_id", "anno_id"})
    twins = [digests(tmp_path / split / "JPEGImages") for split in ("valid_u", "valid")]
    assert twins[0] == twins[1]
    assert len(load(tmp_path / "train" / "conversations.json")) == counts["train/conversations"]


def spoken(root: Path) -> Iterator[tuple[dict[str, Any], VideoSample, dict[str, Any]]]:
    """Each conversation, the whole sample it is about, and its answer."""
    dataset = ReVOS(root, split="train")
    index = {(record.video_id, record.expression_id): number for number, record in enumerate(dataset.index)}
    for record in load(root / "conversations.json"):
        answer = json.loads(record["solution"].removeprefix("<answer>").removesuffix("</answer>"))
        yield record, dataset[index[record["video"], record["exp_id"]]], answer


def test_conversations_say_the_truth(full: Path) -> None:
    for record, sample, answer in itertools.islice(spoken(full), 0, None, 3):
        keyframe, thought = answer["keyframe_timestamp"], record["CoT"].removesuffix(".</think>")
        assert sample.expression == record["exp"]
        areas = {time: int(sample.target([time]).sum()) for time in record["frame_ids"]}
        assert keyframe == max(areas, key=lambda time: (areas[time], -time))
        boxes = sample.boxes(keyframe)
        assert answer["bbox_2d_list"] == [[round(float(c), 2) for c in box] for box in to_canvas(boxes, SIZE, 560)]
        assert f"Step 2: largest at {keyframe}s." in thought
        assert thought.endswith(f"Step 3: {'box it' if len(boxes) == 1 else 'box each'}")


def test_thoughts_name_motions_that_are_true(full: Path) -> None:
    directions = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
    moved = 0
    for record, sample, _ in itertools.islice(spoken(full), 0, None, 2):
        *_, verb, direction = record["CoT"].split(".")[0].split()
        if verb == "moves":
            # Where the border cuts a box it moves less than its shape, but never the other way.
            boxes = [sample.boxes(time)[0] for time in record["frame_ids"] if len(sample.boxes(time))]
            move = (boxes[-1] - boxes[0]).reshape(2, 2).sum(dim=0)
            assert float(move @ torch.tensor(directions[direction])) > 0, sample.key
            moved += 1
    assert moved > 20


def test_conversations_can_be_imitated(easy: Path) -> None:
    dataset = ConversationDataset(ReVOS(easy, split="train"))
    assert len(dataset) > 0
    assert all(dataset[number].num_frames == 3 for number in range(len(dataset)))


def test_thoughts_are_short(easy: Path) -> None:
    thoughts = [
        record["CoT"].removeprefix("<think>").removesuffix("</think>") for record in load(easy / "conversations.json")
    ]
    assert max(len(thought.split()) for thought in thoughts) <= 17
    assert len({word for thought in thoughts for word in thought.split()}) <= 40


def test_conversations_have_the_groups_that_training_draws(easy: Path) -> None:
    frames: dict[tuple[str, str], set[tuple[int, ...]]] = {}
    for record in load(easy / "conversations.json"):
        frames.setdefault((record["video"], record["exp_id"]), set()).add(tuple(record["frame_ids"]))
    dataset = ReVOS(easy, split="train")
    selection = StridedThroughAnchor(3)
    for record in dataset.index:
        if record.group != "absent":
            areas = dataset.masks(record).areas()
            drawn = {tuple(selection(lambda a=areas: a, 6, np.random.default_rng(seed))) for seed in range(40)}
            shown = {group for group in drawn if any(areas[frame] for frame in group)}
            assert frames.pop((record.video_id, record.expression_id)) == shown
    assert not frames


def test_a_record_has_the_released_form(easy: Path) -> None:
    record = load(easy / "conversations.json")[0]
    assert set(record) == {
        *("video", "exp", "obj_id", "anno_id", "frames", "exp_id", "category", "length", "frame_path"),
        *("CoT", "sampled_video_frames", "frame_ids", "solution", "conversation"),
    }
    human, gpt = record["conversation"]
    assert (human["from"], gpt["from"]) == ("human", "gpt")
    assert human["value"].startswith("<video>\n")
    assert record["exp"] in human["value"]
    assert gpt["value"] == f"{record['CoT']}\n{record['solution']}"
    assert all((easy / frame).is_file() for frame in record["frame_path"])
    assert [record["frame_path"][frame] for frame in record["frame_ids"]] == record["sampled_video_frames"]


def test_same_seed_same_bytes_and_prefix_of_a_larger_one(tmp_path: Path) -> None:
    for name, count, seed in (("a", 3, 0), ("b", 3, 0), ("larger", 5, 0), ("other", 3, 1)):
        write_shapes(tmp_path / name, videos=count, valid_videos=2, seed=seed)
    first, again, larger, other = (digests(tmp_path / name) for name in ("a", "b", "larger", "other"))
    assert first == again
    pictures = {name for name in first if name.endswith(".jpg")}
    assert all(larger[name] == first[name] for name in pictures)
    assert not {first[name] for name in pictures} & {other[name] for name in pictures}
    metas = [load(tmp_path / name / "meta_expressions_train_.json")["videos"] for name in ("a", "larger")]
    for name, video in metas[0].items():
        assert [said["exp"] for said in video["expressions"].values()] == [
            said["exp"] for said in metas[1][name]["expressions"].values()
        ]


def test_splits_share_no_frame(full: Path) -> None:
    held_out = set(digests(full / "JPEGImages" / "shapes" / "valid").values())
    assert len(held_out) == 30
    assert not held_out & set(digests(full / "JPEGImages" / "shapes" / "train").values())


def test_an_interrupted_tree_is_noticed_and_can_be_written_again(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "a", videos=3, valid_videos=2, progress=interrupt)
    with pytest.raises(DatasetNotFoundError):
        len(ReVOS(tmp_path / "a", split="train"))
    write_shapes(tmp_path / "a", videos=3, valid_videos=2)
    write_shapes(tmp_path / "b", videos=3, valid_videos=2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with pytest.raises(FileExistsError, match="delete it"):
        write_shapes(tmp_path / "a", videos=3, valid_videos=2)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"num_frames": 1}, id="one frame"),
        pytest.param({"num_frames": 2, "sampled_frames": 1}, id="two frames"),
        pytest.param({"num_frames": 13, "preset": "full", "objects": 2}, id="long"),
        pytest.param({"objects": 1, "sampled_frames": 1}, id="one object"),
        pytest.param({"size": (64, 200)}, id="wide"),
        pytest.param({"objects": 4}, id="crowded"),
    ],
)
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    counts = write_shapes(tmp_path, **{"videos": 4, "valid_videos": 1, "preset": "easy"} | options)
    assert counts["train/videos"] == 4
    records = load(tmp_path / "conversations.json")
    shown = min(options.get("sampled_frames", 3), options.get("num_frames", 6))
    assert {len(record["frame_ids"]) for record in records} == {shown}
    sample = ReVOS(tmp_path, split="train")[0]
    assert sample.num_frames == options.get("num_frames", 6)
    assert sample.size == options.get("size", (112, 112))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"videos": 0}, "Expected `videos` to be at least 1, but got 0"),
        ({"size": (64, 0)}, "Expected `size` to be at least 1, but got 0"),
        ({"objects": 0}, "Expected `objects` to be at least 1, but got 0"),
        ({"preset": "easy", "objects": 5}, "at most 4 objects"),
        ({"size": 6}, "leave room"),
    ],
    ids=str,
)
def test_options_out_of_range(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_shapes(tmp_path, **{"videos": 1, "valid_videos": 1} | options)


@pytest.mark.slow
def test_a_thousand_videos_take_less_than_a_minute(tmp_path: Path) -> None:
    start = time.process_time()
    write_shapes(tmp_path, videos=1000, valid_videos=1)
    assert time.process_time() - start < 60
