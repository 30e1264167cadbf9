"""Tests where pixels are void or frames are not scored, and training on several benchmarks of videos at once."""

import pytest
import torch

from datamodules import LongRVOS, ReasonVOS, RefDAVIS17, RefYouTubeVOS, StridedThroughAnchor, VideoDataModule
from dialogues import VeasonR1
from dialogues.episode import Answer
from evaluation.protocols import MeViSProtocol
from lightning_modules import SegmentationModule
from models.reasoners import ScriptedReasoner
from tests.layouts_video import write_long_rvos, write_reason_vos, write_ref_davis, write_ref_youtube_vos
from tests.lightning_modules.test_training import grpo, parts, right, trainer


def answered(dataset, number, keyframe, box, tmp_path):
    """The J of one expression if a box is answered, which stands still in the whole video."""
    dataset.index[:] = [dataset.index[number]]
    sample, dialogue = dataset[0], VeasonR1(size=56)
    answer = Answer("It is white.", keyframe, torch.tensor([box], dtype=torch.float64))
    reasoner = ScriptedReasoner(default=[dialogue.write(answer, dialogue.ask(sample, range(sample.num_frames)))])
    module = SegmentationModule(reasoner, **parts(), protocol=MeViSProtocol())
    trainer(tmp_path).test(module, datamodule=VideoDataModule(test=dataset), verbose=False)
    return module.results["overall"]["J"]


@pytest.mark.parametrize(("layout", "void"), [("palette", 2), ("mask_dict", 0)])
def test_void_does_not_count(tmp_path, layout, void):
    """The box is the mover's at time 0 and four rows more, of which the upper two are void in the pictures."""
    dataset = RefDAVIS17(write_ref_davis(tmp_path), "valid", layout=layout)
    overlaps = [8 * max(0, 8 - 2 * time) for time in range(6)]
    expected = sum(overlap / (8 * (12 - void) + 64 - overlap) for overlap in overlaps) / 6
    assert answered(dataset, 0, 0, [0, 0, 8, 12], tmp_path) == pytest.approx(expected)


def test_only_scored_frames_count(tmp_path):
    """Frames 1, 3 and 5 have a mask, that of frame 1 is empty; the box is right in the other two."""
    dataset = ReasonVOS(write_reason_vos(tmp_path))
    assert answered(dataset, 1, 3, [2, 20, 14, 30], tmp_path) == pytest.approx(2 / 3)


def test_training_on_several_benchmarks(tmp_path):
    """Two answers to each sample: the mover's true box at time 0, and nothing."""
    selection = StridedThroughAnchor(num_frames=3, top=1)
    datasets = [
        RefYouTubeVOS(write_ref_youtube_vos(tmp_path / "a"), selection=selection),
        RefDAVIS17(write_ref_davis(tmp_path / "b"), selection=selection),
        LongRVOS(write_long_rvos(tmp_path / "c"), selection=selection),
    ]
    reasoner = ScriptedReasoner(default=[right(datasets[0][0], VeasonR1(size=56), keyframe=0), "nothing"])
    run = trainer(tmp_path, steps=7)
    run.fit(grpo(reasoner, num_generations=2), datamodule=VideoDataModule(datasets, batch_size=4))
    assert run.global_step == 7  # 6 + 16 + 6 samples
    assert run.logged_metrics["frac_reward_zero_std"] == 0
