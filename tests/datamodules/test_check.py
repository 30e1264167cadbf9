import pytest

from datamodules import ConversationDataset, MeViS, OwnVideos, ReVOS
from datamodules.check import check
from tests.builders import (
    rle_track,
    two_squares,
    write_conversations,
    write_json,
    write_mevis,
    write_own_videos,
    write_revos,
)


def test_revos(tmp_path):
    report = check(ReVOS(write_revos(tmp_path), "valid"))
    assert report.ok
    assert report.counts == {
        "videos": 2,
        "frames": 12,
        "expressions": 8,
        "expressions, referring": 4,
        "expressions, reasoning": 2,
        "expressions, absent": 2,
        "annotated objects": 8,  # 1 + 1 + 2 + 0 in each
        "annotated frames": 30,  # 6 + 3 + 6 + 0 in each
    }
    assert str(report).splitlines()[-3:] == ["problems: 0", "notes: 0", "ok"]


@pytest.mark.parametrize(
    ("kind", "write", "arguments"),
    [
        (MeViS, write_mevis, {"split": "valid"}),
        (MeViS, write_mevis, {"split": "train"}),
        (OwnVideos, write_own_videos, {}),
    ],
    ids=["hidden", "mevis", "own"],
)
def test_others(tmp_path, kind, write, arguments):
    report = check(kind(write(tmp_path), **arguments))
    assert report.ok
    assert (report.counts["videos"], report.counts["frames"], report.counts["expressions"]) == (2, 12, 6)


def test_problems(tmp_path):
    videos = [f"v{number:02d}" for number in range(13)]
    write_revos(tmp_path, videos=videos)
    for video in videos[:12]:
        (tmp_path / f"JPEGImages/{video}/00001.jpg").write_bytes(b"torn")
    tracks = {str(10 * number + each): rle_track(two_squares()[each]) for number in range(13) for each in range(2)}
    tracks["120"] = [None] * 6  # never visible
    tracks["121"][3] = {"size": [5, 5], "counts": [25]}
    del tracks["10"]
    write_json(tmp_path / "mask_dict.json", tracks)
    report = check(ReVOS(tmp_path))
    assert not report.ok
    found = {kind: finding.count for kind, finding in report.problems.items()}
    # v01 misses an annotation in expressions 0 and 2; v12 has a wrong size in 1 and 2
    assert found == {"unreadable frame": 12, "unknown annotation": 2, "mask size": 2}
    assert {kind: finding.count for kind, finding in report.notes.items()} == {"target never visible": 1}
    assert len(report.problems["unreadable frame"].examples) == 10
    text = str(report)
    assert "... and 2 more" in text
    assert "v12/1, object 0, time 3" in text
    assert text.endswith("not ok")


def test_missing_dataset(tmp_path):
    report = check(ReVOS(tmp_path))
    assert list(report.problems) == ["missing file"]
    assert "mask_dict.json" in str(report)


@pytest.mark.parametrize("name", ["meta_expressions_train_.json", "mask_dict.json", "mask_dict_foreground.json"])
def test_malformed_file(tmp_path, name):
    (write_revos(tmp_path) / name).write_text("[")
    assert list(check(ReVOS(tmp_path)).problems) == ["malformed file"]


def test_conversations(tmp_path):
    path = write_conversations(write_revos(tmp_path))
    assert check(ConversationDataset(ReVOS(tmp_path))).ok
    write_json(path, [{"video": "toy/a", "exp_id": "0"}])
    assert list(check(ConversationDataset(ReVOS(tmp_path))).problems) == ["malformed record"]


def test_progress(tmp_path):
    seen = []

    def progress(records):
        for record in records:
            seen.append(record.key)
            yield record

    check(ReVOS(write_revos(tmp_path)), progress)
    assert seen == [f"toy/{video}/{number}" for video in "ab" for number in range(3)]
