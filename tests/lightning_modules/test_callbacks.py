import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from dialogues import VeasonR1
from dialogues.episode import Answer, Completion, Episode, Turn
from lightning_modules.callbacks import (
    HackingAlarm,
    HFExport,
    PictureWriter,
    PredictionWriter,
    ResultsWriter,
    RolloutLogger,
)
from lightning_modules.callbacks.alarms import hacking_shares
from lightning_modules.callbacks.rollouts import markdown, transcript
from lightning_modules.files import inside
from rewards.base import Scores
from tests.lightning_modules.episodes import failed_episode, group_of_two, moving_square, perfect_episode


class Weight(torch.nn.Module):
    """A reasoner of one number, which it can save."""

    pretrained = "owner/one-number"

    def __init__(self):
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(()))

    def save_pretrained(self, folder: Path, dtype: str | None = None, adapters_only: bool = False):
        (folder / "value").write_text(str(self.value.item()))


class Rehearsal(LightningModule):
    """Hands finished episodes to the callbacks, as the real modules do; two optimiser steps per batch."""

    def __init__(self, groups=None, val_metric=(0.0,)):
        super().__init__()
        self.automatic_optimization = False
        self.reasoner = Weight()
        self.dialogue = VeasonR1()
        self.groups = [group_of_two()] if groups is None else groups
        self.val_metric = list(val_metric)
        self.results = {"overall": {"J": 0.5, "R": float("nan")}}

    def _outputs(self):
        return {"groups": [group for group, _ in self.groups], "scores": [scores for _, scores in self.groups]}

    def training_step(self, batch, batch_idx):
        for _ in range(2):
            self.optimizers().zero_grad()
            self.manual_backward(-self.reasoner.value)
            self.optimizers().step()
        return self._outputs()

    def validation_step(self, batch, batch_idx):
        self.log("JF", self.val_metric[min(self.global_step // 2, len(self.val_metric)) - 1], batch_size=1)
        return self._outputs()

    def test_step(self, batch, batch_idx):
        return self._outputs()

    def predict_step(self, batch, batch_idx):
        return [episode for group, _ in self.groups for episode in group]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def loader(batches=1):
    return DataLoader(torch.zeros(batches, 1), batch_size=1)


def trainer(folder, *callbacks, tensorboard=False, **kwargs):
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=TensorBoardLogger(folder, name="", version="") if tensorboard else False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- rollouts


def test_rollouts_are_written_every_n_optimiser_steps(tmp_path):
    # Two steps per batch and five batches: the log after steps 2 (the first), 4 (4 // 4 = 1) and 8 (2), not 6 and 10.
    trainer(tmp_path, RolloutLogger(every_n_steps=4), max_steps=10).fit(Rehearsal(), loader(5))
    steps = ("00000002", "00000004", "00000008")
    assert contents(tmp_path / "rollouts") == sorted(
        name for step in steps for name in (f"train-{step}.jsonl", f"train-{step}-0.png")
    )


def test_rollout_record(tmp_path):
    trainer(tmp_path, RolloutLogger(), max_steps=2).fit(Rehearsal(), loader())
    perfect, failed = rows(tmp_path / "rollouts" / "train-00000002.jsonl")
    assert perfect == {
        "step": 2,
        "group": 0,
        "member": 0,
        "reward": 1.75,
        "rewards": {"form": 1.0, "boxes": 0.75},
        "sample": "clips/square/0",
        "expression": "the square that moves",
        "text": "<think>It moves.</think>",
        "thinking": "It moves.",
        "keyframe": 6,  # time 2 is the video's frame 6
        "boxes": [[8.0, 10.0, 20.0, 22.0]],
        "length": 3,
        "finished": True,
        "failure": None,
    }
    assert (failed["reward"], failed["rewards"]["boxes"]) == (None, None)
    assert (failed["failure"], failed["finished"]) == ("RuntimeError: out of memory", False)


def test_rollouts_in_tensorboard(tmp_path):
    groups = [group_of_two(), group_of_two(), group_of_two()]
    logger = RolloutLogger(num_samples=2)
    trainer(tmp_path, logger, tensorboard=True, max_steps=2).fit(Rehearsal(groups), loader(), loader())
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = [f"rollouts/{stage}/{number}" for stage in ("train", "validation") for number in (0, 1)]
    assert sorted(events.Tags()["images"]) == tags
    image = events.Images(tags[0])[0]
    with Image.open(tmp_path / "rollouts" / "train-00000002-0.png") as picture:
        assert (image.step, image.width, image.height) == (2, *picture.size)
    text = events.Tensors(f"{tags[0]}/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "<think>It moves.</think>" in text
    assert "| 0 | 1.750 | 1.000 | 0.750 | 3 |" in text


def test_nothing_is_shown_before_training(tmp_path):
    trainer(tmp_path, RolloutLogger(), max_steps=2).fit(Rehearsal(), loader(), loader())
    assert not list((tmp_path / "rollouts").glob("validation-00000000*")), "the sanity check is no validation"


def test_steps_without_rollouts_are_left_alone(tmp_path):
    module = Rehearsal()
    module._outputs = lambda: {"loss": torch.zeros(())}
    trainer(tmp_path, RolloutLogger(), HackingAlarm(), max_steps=2).fit(module, loader())
    assert not (tmp_path / "rollouts").exists()


def test_full_disk_does_not_stop_the_run(tmp_path, monkeypatch, caplog):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with caplog.at_level(logging.WARNING):
        trainer(tmp_path, RolloutLogger(), max_steps=2).fit(Rehearsal(), loader())
    assert "No space left on device" in caplog.text
    assert contents(tmp_path / "rollouts") == []


def test_only_rank_zero_writes_rollouts(tmp_path):
    logger = RolloutLogger()
    other = SimpleNamespace(is_global_zero=False, global_step=0, log_dir=str(tmp_path))
    logger.setup(other, None, "fit")
    logger.on_train_start(other, None)
    logger.on_train_batch_end(other, None, Rehearsal()._outputs(), None, 0)
    assert contents(tmp_path) == []


def test_model_text_is_no_markup():
    group, scores = group_of_two()
    group[0].last.completion.text = "# no heading\n```\n| no | table |"
    text = markdown(group, scores)
    assert "    # no heading\n    ```\n    | no | table |" in text
    assert "\n# no heading" not in text


def test_transcript_names_frames_by_their_position_in_the_video():
    text = transcript(perfect_episode(moving_square(2)).chat)
    assert text == "[user]\n<frame 0>\n<frame 3>\nthe square that moves"


@pytest.mark.parametrize("name", ["every_n_steps", "num_samples", "max_frames"])
def test_rollout_logger_refuses_zero(name):
    with pytest.raises(ValueError, match=f"Expected `{name}` to be at least 1, but got 0"):
        RolloutLogger(**{name: 0})


# --- predictions


def predict(folder, episodes, **kwargs):
    groups = [(episodes, Scores(torch.zeros(len(episodes)), {}))]
    trainer(folder, PredictionWriter(**kwargs)).predict(Rehearsal(groups), loader())
    return folder / "predictions"


def test_masks_in_the_benchmarks_layout(tmp_path):
    sample = moving_square(3)
    folder = predict(tmp_path, [perfect_episode(sample)], film=None)
    # frames 0, 3 and 6 of the video are named 00000, 00006 and 00012
    masks = [folder / "masks" / "clips" / "square" / "0" / f"{name}.png" for name in ("00000", "00006", "00012")]
    assert sorted(folder.rglob("*.png")) == masks
    for time, path in enumerate(masks):
        with Image.open(path) as image:
            assert image.mode == "P"
            assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
            assert torch.equal(torch.from_numpy(np.array(image)).bool(), sample.target([time])[0])
            assert set(np.unique(image)) == {0, 1}


@pytest.mark.parametrize("film", ["gif", "mp4"])
def test_films_can_be_played(tmp_path, film):
    folder = predict(tmp_path, [perfect_episode(moving_square(4, height=31, width=45))], film=film, film_side=65)
    with av.open(str(folder / "films" / "clips" / "square" / f"0.{film}")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4
    assert frames[0].shape[1] in (64, 65)
    assert np.abs(frames[0].astype(int) - frames[3].astype(int)).max() > 50, "the square moves"


def test_answers_and_films_of_every_second_sample(tmp_path):
    episodes = [perfect_episode(moving_square(2, video_id=name), keyframe=1) for name in "abc"]
    folder = predict(tmp_path, episodes, film_every=2, film_side=32)
    answers = rows(folder / "answers.jsonl")
    assert [answer["sample"] for answer in answers] == ["a/0", "b/0", "c/0"]
    assert [answer.get("film") for answer in answers] == ["films/a/0.gif", None, "films/c/0.gif"]
    assert answers[1]["masks"] == "masks/b/0"
    assert (answers[0]["thinking"], answers[0]["keyframe"], answers[0]["boxes"]) == ("It moves.", 3, [[4, 10, 16, 22]])


def test_answer_without_object_has_empty_masks(tmp_path):
    episode = perfect_episode(moving_square(2))
    episode.last.masks = episode.last.masks[:0]
    folder = predict(tmp_path, [episode], film_side=32)
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            assert not np.array(image).any()
    assert len(list(folder.rglob("*.png"))) == 2


def test_failed_segmenter_is_no_empty_mask(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        folder = predict(tmp_path, [failed_episode()])
    assert contents(folder) == ["answers.jsonl"]
    assert rows(folder / "answers.jsonl")[0]["failure"] == "RuntimeError: out of memory"
    assert "No masks for clips/square/0: RuntimeError: out of memory" in caplog.text


def test_predicting_again_starts_a_new_list(tmp_path):
    for _ in range(2):
        folder = predict(tmp_path, [perfect_episode(moving_square(2))], film=None)
    assert len(rows(folder / "answers.jsonl")) == 1


def test_ranks_write_lists_of_their_own(tmp_path):
    for rank in (0, 1):
        writer = PredictionWriter(str(tmp_path), film=None)
        other = SimpleNamespace(
            log_dir=None, default_root_dir=".", world_size=2, global_rank=rank, predict_loop=SimpleNamespace()
        )
        writer.setup(other, None, "predict")
        writer.on_predict_start(other, None)
        writer.on_predict_batch_end(other, None, [perfect_episode(moving_square(1, video_id=f"v{rank}"), 0)], None, 0)
    assert [rows(tmp_path / f"answers.rank{rank}.jsonl")[0]["sample"] for rank in (0, 1)] == ["v0/0", "v1/0"]
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "", "a\\..\\b", "a\0b"], ids=ascii)
def test_names_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="Expected a name that stays inside"):
        predict(tmp_path, [perfect_episode(moving_square(2, video_id=name))])
    assert contents(tmp_path) == ["predictions/answers.jsonl"]
    with pytest.raises(ValueError, match="stays inside"):
        inside(tmp_path, "fine", name)


def test_frame_names_are_needed(tmp_path):
    sample = moving_square(2)
    sample.meta = {"group": "referring"}
    with pytest.raises(ValueError, match=r"Expected `meta\['frame_names'\]` of 'clips/square/0'.*got \['group'\]"):
        predict(tmp_path, [perfect_episode(sample)])


@pytest.mark.parametrize("name", ["film_every", "film_side", "fps"])
def test_prediction_writer_refuses_zero(name):
    with pytest.raises(ValueError, match=f"Expected `{name}` to be at least 1, but got 0"):
        PredictionWriter(**{name: 0})


# --- test


def test_pictures_of_the_first_samples(tmp_path):
    groups = [([perfect_episode(moving_square(video_id=name))], group_of_two()[1]) for name in ("../a", "b c", "d")]
    trainer(tmp_path, PictureWriter(num_samples=2)).test(Rehearsal(groups), loader(2), verbose=False)
    assert contents(tmp_path / "pictures") == ["000--a-0.png", "001-b-c-0.png"]
    with Image.open(tmp_path / "pictures" / "001-b-c-0.png") as picture:
        assert picture.size[0] > 5 * 224


def test_results(tmp_path):
    run = trainer(tmp_path, ResultsWriter())
    run.test(Rehearsal(), loader(), verbose=False)
    assert json.loads((tmp_path / "test.json").read_text()) == {"overall": {"J": 0.5, "R": None}}
    assert contents(tmp_path) == ["test.json"]
    run.validate(Rehearsal(), loader(), verbose=False)
    assert contents(tmp_path) == ["test.json", "validation.json"]


# --- export


@pytest.mark.parametrize(("best", "exported"), [(True, 4.0), (False, 6.0)], ids=["best", "last"])
def test_export(tmp_path, best, exported):
    # The weight is 2, 4, 6 at the three validations, and the second one is the best.
    module = Rehearsal(val_metric=[0.1, 0.9, 0.5])
    keep = ModelCheckpoint(tmp_path / "checkpoints", monitor="JF", mode="max")
    run = trainer(tmp_path, HFExport(best=best), keep, max_steps=6, num_sanity_val_steps=0)
    run.fit(module, loader(1), loader())
    assert float((tmp_path / "hf" / "value").read_text()) == exported
    assert module.reasoner.value.item() == 6.0, "the module keeps its last weights"
    assert f"| step | {exported:.0f} |" in (tmp_path / "hf" / "README.md").read_text()


def test_export_without_checkpoints(tmp_path):
    trainer(tmp_path, HFExport("taken/away"), max_steps=2).fit(Rehearsal(), loader())
    assert float((tmp_path / "taken" / "away" / "value").read_text()) == 2.0


# --- alarms


def answer(text, finished=True, box=(0, 0, 1, 1)):
    sample = moving_square(1)
    said = Answer(boxes=torch.tensor([box], dtype=torch.float64))
    return Episode(sample, perfect_episode(sample, 0).chat, [Turn(Completion([1], text, finished=finished), said)])


def test_hacking_shares():
    full = (-3, -3, 99, 99)
    equal = [answer("a"), answer("a", finished=False), answer("a", box=full), answer("b", box=(0, 0, 48, 28))]
    differing = [answer("c"), answer("d"), answer("e", box=(48, 32, 0, 0)), answer("f", box=full)]
    groups = [(equal, Scores(torch.full((4,), 0.3), {})), (differing, Scores(torch.tensor([0.0, 1, 1, 1]), {}))]
    # 28 / 32 of the frame is 87.5 %, below 90 %; corners swapped cover nothing.
    assert hacking_shares(groups) == pytest.approx(
        {"equal_rewards": 1 / 2, "cut_off": 1 / 8, "duplicates": 2 / 8, "full_frame": 2 / 8}
    )


def test_rewards_that_do_not_apply_are_equal():
    group, _ = group_of_two()
    assert hacking_shares([(group, Scores(torch.full((2,), float("nan")), {}))])["equal_rewards"] == 1


def test_alarm_needs_patience(tmp_path, caplog):
    groups = [([answer("a"), answer("b")], Scores(torch.ones(2), {}))]
    run = trainer(tmp_path, HackingAlarm(patience=3), tensorboard=True, max_steps=14, log_every_n_steps=1)
    with caplog.at_level(logging.WARNING, logger="lightning_modules.callbacks.alarms"):
        run.fit(Rehearsal(groups), loader(7))
    # Seven batches of equal rewards: a warning after the third and the sixth.
    warnings = [record.args[:2] for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [("equal_rewards", 1.0)] * 2
    assert run.logged_metrics["alarms/equal_rewards"] == 1
    assert run.logged_metrics["alarms/duplicates"] == 0


def test_alarm_goes_on_counting_after_a_resume(tmp_path, caplog):
    groups = [([answer("a"), answer("b")], Scores(torch.ones(2), {}))]
    first, second = HackingAlarm(patience=3), HackingAlarm(patience=3)
    with caplog.at_level(logging.WARNING, logger="lightning_modules.callbacks.alarms"):
        trainer(tmp_path, first, max_steps=4).fit(Rehearsal(groups), loader(2))
        assert not [record for record in caplog.records if "alarms/" in record.message]
        second.load_state_dict(first.state_dict())
        trainer(tmp_path, second, max_steps=2).fit(Rehearsal(groups), loader(1))
    warned = [record.args[0] for record in caplog.records if "alarms/" in record.message]
    assert warned == ["equal_rewards"]
