"""Benchmarks of videos in training, and what `check` finds of them."""

import pytest
import torch

from commands.data import run
from datamodules import (
    LongRVOS,
    MeViSv2,
    ReasonVOS,
    RefDAVIS17,
    RefSAV,
    RefYouTubeVOS,
    StridedThroughAnchor,
    VideoDataModule,
)
from datamodules.check import check
from tests.builders import edit_json
from tests.layouts_video import (
    write_long_rvos,
    write_mevis_v2,
    write_palette,
    write_reason_vos,
    write_ref_davis,
    write_ref_sav,
    write_ref_youtube_vos,
)

#: dataset, writer, arguments, name of the configuration
EACH = {
    "ref_youtube_vos, train": (RefYouTubeVOS, write_ref_youtube_vos, {"split": "train"}),
    "ref_youtube_vos": (RefYouTubeVOS, write_ref_youtube_vos, {"split": "valid"}),
    "ref_davis, train": (RefDAVIS17, write_ref_davis, {"split": "train"}),
    "ref_davis": (RefDAVIS17, write_ref_davis, {"split": "valid"}),
    "ref_davis, mask_dict": (RefDAVIS17, write_ref_davis, {"layout": "mask_dict"}),
    "reason_vos": (ReasonVOS, write_reason_vos, {}),
    "long_rvos, train": (LongRVOS, write_long_rvos, {"split": "train"}),
    "long_rvos": (LongRVOS, write_long_rvos, {"split": "valid"}),
    "ref_sav": (RefSAV, write_ref_sav, {}),
    "mevis_v2": (MeViSv2, write_mevis_v2, {"split": "valid_u"}),
}


@pytest.mark.parametrize("name", [name for name in EACH if name != "ref_youtube_vos"])
def test_what_workers_read_can_be_trained_on(tmp_path, name):
    kind, write, arguments = EACH[name]
    dataset = kind(write(tmp_path), selection=StridedThroughAnchor(num_frames=3, top=1), **arguments)
    drawn = [
        [
            (sample.key, sample.frame_ids, sample.scored, sample.target().sum().item())
            for batch in loader
            for sample in batch
        ]
        for loader in (
            VideoDataModule(train=dataset, batch_size=2, num_workers=workers).train_dataloader() for workers in (0, 1)
        )
    ]
    assert drawn[0] == drawn[1]
    assert sorted(key for key, *_ in drawn[0]) == sorted(record.key for record in dataset.index)
    # through an anchor, the target is seen wherever there is one
    visible = {record.key: record.group != "absent" for record in dataset.index}
    assert {key: area > 0 for key, *_, area in drawn[0]} == visible


@pytest.mark.parametrize("name", EACH)
def test_check(tmp_path, name, capsys):
    kind, write, arguments = EACH[name]
    write(tmp_path)
    report = check(kind(tmp_path, **arguments))
    assert report.ok
    assert not report.notes
    assert report.counts["frames"] == 6 * report.counts["videos"]
    if ", " in name:
        return
    with pytest.raises(SystemExit) as done:
        run(["check", "--dataset", f"configs/data/{name}.yaml", "--dataset.root", str(tmp_path)])
    assert done.value.code == 0
    assert capsys.readouterr().out.strip().endswith("ok")


def test_check_counts_what_is_scored_and_void(tmp_path):
    report = check(ReasonVOS(write_reason_vos(tmp_path / "reason")))
    # of each video, two expressions about an object with six annotated frames, one about one with three
    assert report.counts["scored frames"] == 2 * (6 + 3 + 6)
    report = check(RefDAVIS17(write_ref_davis(tmp_path / "davis"), "valid"))
    assert report.counts["frames with void"] == 12
    assert "scored frames" not in report.counts


def test_check_finds_a_broken_void_and_names_that_are_not_unique(tmp_path):
    write_ref_davis(tmp_path / "davis")
    write_palette(tmp_path / "davis/valid/Annotations/blackswan/00002.png", torch.zeros(8, 8))
    report = check(RefDAVIS17(tmp_path / "davis", "valid"))
    assert report.problems["mask size"].count == 1 + 8  # the void of the video, and each expression
    write_reason_vos(tmp_path / "reason")

    def same(content):
        for expression in content["videos"]["00a"]["expressions"]:
            expression["exp_id"] = 0

    edit_json(tmp_path / "reason/meta_expressions.json", same)
    report = check(ReasonVOS(tmp_path / "reason"))
    assert report.problems["name twice"].examples == ["'MOSE_00a_7/0'"]
