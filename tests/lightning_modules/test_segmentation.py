"""How a test measures: by which protocol, at which frames, and against what."""

import json
import logging
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import LazyStack, MeViS, ReVOS, VideoDataModule
from dialogues import VeasonR1
from dialogues.episode import Answer, Completion, Episode, Turn
from evaluation.protocols import (
    MeViSProtocol,
    OwnVideosProtocol,
    RefCOCOProtocol,
    RefDAVIS17AnnotatorsProtocol,
    ReVOSProtocol,
    ViCaSProtocol,
)
from lightning_modules import SegmentationModule, SFTModule
from lightning_modules.segmentation import prediction_of
from models.frame_samplers import AllFrames
from models.reasoners import QwenVL, ScriptedReasoner
from models.reasoners.scratch import ScratchConfig, save
from models.segmenters import StillSegmenter
from tests.builders import two_squares, video_sample, write_json, write_mevis, write_revos
from tests.lightning_modules.test_training import conversations, loader, parts, right, samples, trainer


def module(answers=None, **options):
    """A module whose answers are the true boxes of a time, which stand still, where there are ``answers``."""
    dialogue = VeasonR1(size=56)
    reasoner = ScriptedReasoner(answers or {}, default=["nothing"])
    return SegmentationModule(reasoner, dialogue, StillSegmenter(), AllFrames(), **options)


def evaluated(dataset, tmp_path, stage="test", **options):
    answers = {
        sample.key: [right(sample, VeasonR1(size=56), keyframe=5)] for sample in dataset if sample.target().any()
    }
    made = module(answers, **options)
    run = getattr(trainer(tmp_path), "validate" if stage == "val" else stage)
    run(made, datamodule=VideoDataModule(**{stage: dataset}), verbose=False)
    return made


@pytest.mark.parametrize("stage", ["val", "test"])
def test_the_protocol_is_that_of_the_dataset(tmp_path, stage, caplog):
    with caplog.at_level(logging.INFO):
        mevis = evaluated(MeViS(write_mevis(tmp_path / "mevis"), "valid_u"), tmp_path, stage)
    assert "protocol: MeViSProtocol, rules: ours" in caplog.text
    assert type(mevis.metrics.protocol) is MeViSProtocol
    revos = evaluated(ReVOS(write_revos(tmp_path / "revos"), "valid"), tmp_path, stage)
    assert mevis.results.keys() == {"overall"}
    assert revos.results.keys() == {"referring", "reasoning", "absent", "overall"}
    assert revos.results["overall"].keys() == ReVOSProtocol.columns.keys()
    assert revos.results["absent"]["hallucination"] == 0
    # the late object stands still from frame 3 on: right in frames 3 to 5, and wrong before
    assert revos.results["reasoning"]["J"] == pytest.approx(0.5)


def test_validation_and_test_may_be_of_several_datasets(tmp_path):
    data = VideoDataModule(
        val=MeViS(write_mevis(tmp_path / "mevis"), "valid_u"), test=ReVOS(write_revos(tmp_path / "revos"), "valid")
    )
    made, run = module(), trainer(tmp_path)
    run.validate(made, datamodule=data, verbose=False)
    assert made.results.keys() == {"overall"}
    run.test(made, datamodule=data, verbose=False)
    assert "referring" in made.results


def test_a_given_protocol_comes_first(tmp_path):
    dataset = ReVOS(write_revos(tmp_path / "revos"), "valid")
    official = evaluated(dataset, tmp_path, protocol=ReVOSProtocol(official=True)).results
    assert official.keys() == {"referring", "reasoning", "absent", "overall"}
    assert evaluated(dataset, tmp_path, protocol=OwnVideosProtocol()).results.keys() == {"overall"}


def test_without_a_dataset_a_protocol_must_be_given(tmp_path):
    with pytest.raises(ValueError, match="Expected a `protocol` where no VideoDataModule says by `test` what is meas"):
        trainer(tmp_path).test(module(), loader(samples(1)), verbose=False)
    with pytest.raises(ValueError, match="says by `val`"):
        trainer(tmp_path).validate(module(), loader(samples(1)), verbose=False)


def test_a_dataset_of_no_benchmark_needs_a_protocol(tmp_path):
    class Kitchen(MeViS):
        """Not known."""

    with pytest.raises(ValueError, match=r"but got 'Kitchen': name one of the protocols .*OwnVideosProtocol"):
        evaluated(Kitchen(write_mevis(tmp_path / "mevis"), "valid_u"), tmp_path)


def test_groups_that_a_protocol_does_not_know_are_found_before_the_run(tmp_path):
    mevis = MeViS(write_mevis(tmp_path / "mevis"), "valid_u")
    with pytest.raises(ValueError, match="but got None: ReVOSProtocol is not the protocol of this dataset"):
        evaluated(mevis, tmp_path, protocol=ReVOSProtocol())
    path = tmp_path / "mevis/valid_u/meta_expressions.json"
    content = json.loads(path.read_text())
    content["videos"]["b"]["expressions"]["2"] |= {"anno_id": [], "obj_id": []}
    write_json(path, content)
    with pytest.raises(ValueError, match="one without a target: use the dataset `MeViSv2`"):
        evaluated(MeViS(tmp_path / "mevis", "valid_u"), tmp_path)


def test_what_needs_all_expressions_of_a_video_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got RefDAVIS17AnnotatorsProtocol: write masks by `thinkseg predict`"):
        trainer(tmp_path).test(module(protocol=RefDAVIS17AnnotatorsProtocol()), loader(samples(1)), verbose=False)


def test_only_frames_and_pixels_that_count_are_measured(tmp_path):
    masks = two_squares(size=56)[1:]  # there from frame 3 on
    video = video_sample(masks, scored=[2, 4], foreground=None, expression_id="scored")
    void = torch.zeros(6, 56, 56, dtype=torch.bool)
    void[2] = masks[0, 5]  # what is wrongly found in frame 2
    blind = video_sample(masks, scored=[2, 4], foreground=None, void=LazyStack.of(void), expression_id="void")
    answers = {each.key: [right(each, VeasonR1(size=56), keyframe=5)] for each in (video, blind)}
    numbers = []
    for each in (video, blind):
        made = module(answers, protocol=OwnVideosProtocol())
        trainer(tmp_path).test(made, loader([each]), verbose=False)
        numbers.append(made.results["overall"]["J"])
    assert numbers == [0.5, 1]


def test_each_box_is_a_track(tmp_path):
    masks = two_squares(size=56)[:, 5:].repeat(1, 2, 1, 1)
    video = video_sample(masks)
    made = module({video.key: [right(video, VeasonR1(size=56), keyframe=1)]}, protocol=ViCaSProtocol())
    trainer(tmp_path).test(made, loader([video]), verbose=False)
    assert made.results["overall"]["mAP"] == 1  # united they would be one track of two objects


def test_predictions_are_of_every_frame():
    video = video_sample(two_squares(), scored=[0, 5])
    boxes = torch.zeros(2, 4, dtype=torch.float64)
    turn = Turn(Completion([], ""), Answer("", 0, boxes), list(range(6)), two_squares())
    prediction = prediction_of(Episode(video, None, [turn]))
    assert prediction.shape == (2, 32, 32)
    assert torch.equal(prediction.mask.dense(), two_squares()[:, [0, 5]].any(dim=0))
    turn.mask_frames, turn.masks = [0, 5], two_squares()[:, [0, 5]]
    with pytest.raises(ValueError, match="masks at every frame of 'video/0', but got them at 2 of 6"):
        prediction_of(Episode(video, None, [turn]))


@pytest.mark.parametrize("protocol", [MeViSProtocol, RefCOCOProtocol, ViCaSProtocol])
def test_the_best_checkpoint_is_kept_whatever_is_measured(tmp_path, protocol):
    path = Path(__file__).parents[2] / "configs/trainer/callbacks.yaml"
    (options,) = [each["init_args"] for each in yaml.safe_load(path.read_text()) if "Model" in each["class_path"]]
    best = ModelCheckpoint(**options | {"dirpath": tmp_path / "checkpoints"})
    save(ScratchConfig(hidden_size=64, intermediate_size=64, num_layers=1), tmp_path / "model")
    reasoner = QwenVL(str(tmp_path / "model"), dtype="float32")
    made = SFTModule(reasoner=reasoner, **parts(), protocol=protocol(), max_completion_length=4)
    run = trainer(tmp_path)
    run.callbacks.append(best)
    run.fit(made, loader(conversations()), loader(samples()))
    assert (tmp_path / "checkpoints/best.ckpt").exists()
    assert best.current_score == made.results["overall"][protocol.headline]
