"""What predict writes, measured as a folder, has the numbers of test, whatever the benchmark."""

import math
from functools import partial

import pytest
import torch
from PIL import Image

from datamodules import GroundMoRe, ReasonSeg, ReVOS, ViCaS, VideoDataModule
from dialogues import VeasonR1
from dialogues.episode import Answer
from evaluation.benchmark import evaluate
from evaluation.predictions import open_predictions
from evaluation.protocols import protocol_of
from lightning_modules import SegmentationModule
from lightning_modules.callbacks import PredictionWriter
from models.frame_samplers import AllFrames
from models.reasoners import ScriptedReasoner
from models.segmenters import StillSegmenter
from tests.builders import write_revos
from tests.layouts_other import write_groundmore, write_reason_seg, write_vicas
from tests.lightning_modules.test_training import trainer

SETS = {
    "ReVOS": (ReVOS, write_revos, {"split": "valid"}),
    "GroundMoRe": (GroundMoRe, write_groundmore, {"split": "test"}),
    "ViCaS": (ViCaS, partial(write_vicas, t=2), {"split": "val"}),
    "ReasonSeg": (ReasonSeg, write_reason_seg, {"split": "val"}),
}


def module(dataset, protocol=None, boxes=True):
    """A module whose answers are the boxes of a frame, a little too far left; the last answer is nonsense."""
    dialogue, answers = VeasonR1(size=56), {}
    for sample in list(dataset)[:-1] if boxes else ():
        time = sample.num_frames // 2
        found = sample.boxes(time).double() + torch.tensor([-1.0, 0, -1, 0])
        answer = Answer("There.", time, found)
        answers[sample.key] = [dialogue.write(answer, dialogue.ask(sample, range(sample.num_frames)))]
    reasoner = ScriptedReasoner(answers, default=["nothing"])
    return SegmentationModule(reasoner, dialogue, StillSegmenter(), AllFrames(), protocol=protocol)


def predict(dataset, tmp_path, **options):
    run = trainer(tmp_path)
    run.callbacks.append(PredictionWriter(str(tmp_path / "predictions"), film=None))
    run.predict(module(dataset, **options), datamodule=VideoDataModule(predict=dataset))
    return tmp_path / "predictions/masks"


@pytest.mark.parametrize("official", [False, True], ids=["ours", "official"])
@pytest.mark.parametrize("name", SETS)
def test_a_model_and_its_folder_have_the_same_numbers(tmp_path, name, official):
    kind, write, options = SETS[name]
    dataset, protocol = kind(write(tmp_path / "data"), **options), protocol_of(name)(official)
    made = module(dataset, protocol)
    trainer(tmp_path).test(made, datamodule=VideoDataModule(test=dataset), verbose=False)
    evaluation = evaluate(dataset, predict(dataset, tmp_path), protocol)
    assert evaluation.problems == []
    assert [each.problems for each in evaluation.results] == [[]] * len(dataset)
    assert evaluation.table.keys() == made.results.keys()
    for row, numbers in evaluation.table.items():
        assert numbers == pytest.approx(made.results[row], abs=1e-9, nan_ok=True)
    assert 0 < evaluation.table["overall"][protocol.headline] < 1


def test_tracks_of_vicas_are_read_apart(tmp_path):
    dataset = ViCaS(write_vicas(tmp_path / "data"), "val")
    both = next(record for record in dataset.index if len(record.annotation[1]) == 2)
    folder = predict(dataset, tmp_path)
    expression = folder / both.video_id / both.expression_id
    assert sorted(path.name for path in expression.iterdir()) == ["track_0", "track_1"]
    predictions = open_predictions(folder, dataset.index)
    whole = predictions.read(both, [2, 4], (32, 32))
    assert len(whole.prediction.tracks) == 2
    assert (whole.prediction.missing, whole.problems, whole.encodings) == ((), [], {"palette"})
    (expression / "track_1/00004.png").unlink()
    found = predictions.read(both, [2, 4], (32, 32))
    assert found.prediction.missing == (1,)
    assert [track.areas()[1] for track in found.prediction.tracks] == [0, 0]
    assert found.problems == [
        f"`{both.video_id}/{both.expression_id}/track_1` has no `00004.png`: 1 of 2 frames missing"
    ]
    Image.new("L", (32, 32)).save(expression / "track_1/odd.png")
    (folder / both.video_id / "track_0").mkdir()
    Image.new("L", (32, 32)).save(folder / both.video_id / "track_0/00000.png")
    odd, unknown = sorted(sentence for sentence in predictions.surplus(dataset.index) if "track_" in sentence)
    assert "track_1`: `odd.png`, no frames of the video" in odd
    assert f"{both.video_id}/track_0`: `00000.png`, of no expression" in unknown


def test_a_second_answer_leaves_no_track_of_the_first(tmp_path):
    dataset = ViCaS(write_vicas(tmp_path / "data"), "val")
    predict(dataset, tmp_path)
    folder = predict(dataset, tmp_path, boxes=False)
    assert not list(folder.rglob("track_*"))
    evaluation = evaluate(dataset, folder, protocol_of("ViCaS")(official=True))
    assert [(each.missing, each.row["tracks"]) for each in evaluation.results] == [(0, 0)] * len(dataset)
    assert evaluation.table["overall"]["mAP"] == 0 or math.isnan(evaluation.table["overall"]["mAP"])
