"""Training and tests through `VideoDataModule` where not everything counts: images with void, clips of 20 frames."""

import pytest

from datamodules import GroundMoRe, ReasonSeg, RefCOCO, ViCaS, VideoDataModule
from dialogues import VeasonR1
from evaluation.protocols import MeViSProtocol
from lightning_modules import SegmentationModule
from models.frame_samplers import AllFrames
from models.reasoners import ScriptedReasoner
from models.segmenters import StillSegmenter
from tests.builders import edit_json
from tests.layouts_other import (
    BOXES,
    shape,
    write_groundmore,
    write_reason_seg,
    write_ref_coco,
    write_vicas,
)
from tests.lightning_modules.test_training import grpo, right, trainer


def mean_j(dataset, tmp_path, workers=0):
    """The mean J over expressions if the true boxes of time 0 are answered, and stand still; else nothing is."""
    dialogue = VeasonR1(size=56)
    answers = {sample.key: [right(sample, dialogue, keyframe=0)] for sample in dataset if len(sample.boxes(0))}
    module = SegmentationModule(
        ScriptedReasoner(answers, default=["nothing"]),
        dialogue,
        StillSegmenter(),
        AllFrames(),
        protocol=MeViSProtocol(),
    )
    data = VideoDataModule(test=dataset, eval_batch_size=2, num_workers=workers)
    trainer(tmp_path).test(module, datamodule=data, verbose=False)
    return module.results["overall"]["J"]


def test_images(tmp_path):
    """The first two sentences have one box each; the third one box around both squares, of rows 4-29, columns 2-13."""
    one_box = (1 + 1 + (64 + 120) / (26 * 12)) / 3
    assert mean_j(RefCOCO(write_ref_coco(tmp_path / "a"), split="testA"), tmp_path) == pytest.approx(one_box)
    assert mean_j(ReasonSeg(write_reason_seg(tmp_path / "b"), "val"), tmp_path, workers=1) == pytest.approx(one_box)


def test_void_does_not_count(tmp_path):
    """The box spans four stripes as large: target, void, nothing, target."""
    write_reason_seg(tmp_path)
    for path in (tmp_path / "val").glob("*"):
        if not path.name.startswith("0_"):
            path.unlink()
    (path,) = (tmp_path / "val").glob("*.json")
    shapes = [shape("target", (4, 4, 12, 8)), shape("ignore", (4, 8, 12, 12)), shape("target", (4, 16, 12, 20))]
    edit_json(path, lambda content: content.update(shapes=shapes))
    assert mean_j(ReasonSeg(tmp_path, "val"), tmp_path) == pytest.approx(2 / 3)


@pytest.mark.parametrize("workers", [0, 1])
def test_groundmore(tmp_path, workers):
    """Of 60 frames 20 count: number i * 59 // 19. The square stands still in the answer; truly it moves 2 a frame."""
    dataset = GroundMoRe(write_groundmore(tmp_path, t=60, size=160), "test", groups=["causal"])
    times = [number * 59 // 19 for number in range(20)]
    overlaps = [max(0, 8 - 2 * time) / 8 for time in times]
    expected = sum(overlap / (2 - overlap) for overlap in overlaps) / 20
    assert mean_j(dataset, tmp_path, workers) == pytest.approx(expected)
    assert expected != pytest.approx((1 + 3 / 5 + 1 / 3 + 1 / 7) / 60)  # which all frames would give


def test_vicas(tmp_path):
    """Of 6 frames 0 and 3 count; at the first only the mover is there."""
    write_vicas(tmp_path)
    moved = 2 / 14  # 6 of 8 columns have changed after three frames
    late, areas = 1.0, [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in BOXES]
    both = 16 / (64 + sum(areas) - 16)
    expected = ((1 + moved) / 2 + (late + 0) / 2 + (1 + both) / 2) / 3
    assert mean_j(ViCaS(tmp_path, "val"), tmp_path) == pytest.approx(expected)


def test_training_on_images_and_clips_at_once(tmp_path):
    """Two answers to each sample: its true boxes at time 0, and nothing."""
    datasets = [
        RefCOCO(write_ref_coco(tmp_path / "a")),
        ReasonSeg(write_reason_seg(tmp_path / "b")),
        GroundMoRe(write_groundmore(tmp_path / "c"), groups=["causal"]),
    ]
    reasoner = ScriptedReasoner(default=[right(datasets[0][0], VeasonR1(size=56), keyframe=0), "nothing"])
    run = trainer(tmp_path, steps=7)
    run.fit(grpo(reasoner, num_generations=2), datamodule=VideoDataModule(datasets, batch_size=2))
    assert run.global_step == 7  # 6 + 6 + 2 samples
    assert run.logged_metrics["frac_reward_zero_std"] == 0
