"""Reasoning video object segmentation as a Lightning module: what validate, test and predict do."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from datamodules.base import VideoDataModule
from datamodules.dataset import VideoDataset
from datamodules.structures import VideoSample
from dialogues.base import Dialogue
from dialogues.episode import Episode
from evaluation.cases import Prediction, Truth, scored_times
from evaluation.functional import BitMasks
from evaluation.protocols import BenchmarkProtocol, protocol_of
from evaluation.video_metrics import VideoMetrics
from lightning_modules.parallelism import Parallelism
from lightning_modules.rollout import answer, segment
from models.frame_samplers import FrameSampler, UniformFrames
from models.reasoners.base import Reasoner, Sampling
from models.segmenters.base import Segmenter
from rewards.base import Reward, RewardCollection, Scores


class SegmentationModule(LightningModule):
    """Answers questions about videos with masks, and measures how well.

    Args:
        reasoner: thinks and points.
        dialogue: how it is asked, and how its answers are read.
        segmenter: turns what it points at into masks; None answers without masks.
        frame_sampler: which frames it is shown; by default 8 evenly spaced ones.
        rewards: by name; reported by validate and test, and trained on by GRPO.
        reward_weights: by name; see ``RewardCollection``.
        protocol: how validate and test measure; None is the protocol of the dataset, which the datamodule knows.
        max_completion_length: most tokens of an answer.
        on_segmenter_error: ``error``, or ``skip`` to leave the episode out of every number and count it.
    """

    def __init__(
        self,
        reasoner: Reasoner,
        dialogue: Dialogue,
        segmenter: Segmenter | None = None,
        frame_sampler: FrameSampler | None = None,
        rewards: dict[str, Reward] | None = None,
        reward_weights: dict[str, float | None] | None = None,
        protocol: BenchmarkProtocol | None = None,
        max_completion_length: int = 1024,
        on_segmenter_error: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        self.reasoner = reasoner
        self.dialogue = dialogue
        self.segmenter = segmenter
        self.frame_sampler = frame_sampler or UniformFrames()
        self.rewards = RewardCollection(rewards or {}, reward_weights)
        self.protocol = protocol
        #: of the validation or the test that runs
        self.metrics: VideoMetrics | None = None
        self.max_completion_length = max_completion_length
        self.on_segmenter_error = on_segmenter_error
        self.results: dict[str, dict[str, float]] = {}
        self.segmenter_failures = 0

    @property
    def parallelism(self) -> Parallelism:
        """How the model lies on the ranks."""
        return Parallelism() if self._trainer is None else Parallelism.of(self._trainer.strategy)

    def configure_model(self) -> None:
        """Load the reasoner; Lightning calls this on every rank."""
        self.parallelism.configure(self.reasoner)

    def setup(self, stage: str) -> None:
        """Have the next batch prepared while one is used."""
        trainer: Any = self.trainer
        if isinstance(trainer.datamodule, VideoDataModule):
            trainer.datamodule.prepare = self.prepare

    def prepare(self, sample: VideoSample) -> None:
        """Do what needs no weights of what will be done first: read the frames that will be shown, and process them.

        It is called by another thread.
        """
        self.reasoner.prepare(sample, self.dialogue.ask(sample, self.frame_sampler(sample)))

    def transfer_batch_to_device(self, batch: list[VideoSample], device: torch.device, dataloader_idx: int) -> Any:
        """Leave samples where they are: frames are read lazily, and each part moves what it needs."""
        return batch

    def on_validation_start(self) -> None:
        """Measure as the validation set's benchmark does."""
        self._start_measuring("val")

    def on_test_start(self) -> None:
        """Measure as the test set's benchmark does."""
        self._start_measuring("test")

    def validation_step(self, batch: list[VideoSample], batch_idx: int) -> dict[str, Any]:
        """Answer once, greedily; segment every frame; update the metrics."""
        return self._evaluate(batch)

    def test_step(self, batch: list[VideoSample], batch_idx: int) -> dict[str, Any]:
        """Do what ``validation_step`` does."""
        return self._evaluate(batch)

    def predict_step(self, batch: list[VideoSample], batch_idx: int) -> list[Episode]:
        """Return one episode per sample, with masks at every frame."""
        with self.parallelism.whole_weights(self):
            return [group[0] for group in self._answers(batch)]

    def on_validation_epoch_end(self) -> None:
        """Log the table of the validation set."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log the table of the test set."""
        self._report("test")

    def _answer(
        self, batch: Sequence[VideoSample], group_size: int = 1, sampling: Sampling | None = None
    ) -> list[list[Episode]]:
        sampling = sampling or Sampling(self.max_completion_length)
        return answer(batch, self.reasoner, self.dialogue, self.frame_sampler, group_size, sampling)

    def _segment(self, groups: Sequence[Sequence[Episode]], segment_frames: Literal["shown", "all"] = "all") -> None:
        if self.segmenter is not None:
            segment(groups, self.segmenter.to(self.device), segment_frames, self.on_segmenter_error)

    def _answers(self, batch: Sequence[VideoSample]) -> list[list[Episode]]:
        """Answer each sample once; what a broken model says is no answer that could be scored."""
        groups = self._answer(batch)
        self._segment(groups)
        for (episode,) in groups:
            if not episode.last.completion.drawn_from_numbers:
                raise FloatingPointError(
                    f"Expected finite logits while {episode.sample.key!r} was answered, but got others; look at the "
                    "weights, or try `reasoner.dtype=float32`"
                )
        return groups

    def _evaluate(self, batch: list[VideoSample]) -> dict[str, Any]:
        if self.segmenter is None:
            raise ValueError("Expected a `segmenter` to validate or test with, but got None: J and F need masks")
        with self.parallelism.whole_weights(self):
            groups = self._answers(batch)
            scores = [self.rewards(group) for group in groups]
        for (episode,), score in zip(groups, scores, strict=True):
            if episode.sample.meta.get("repeated"):  # it only fills up this rank's last batch
                continue
            if episode.last.failure is None:
                self._measure(episode, score)
            else:
                self.segmenter_failures += 1
        return {"groups": groups, "scores": scores}

    def _start_measuring(self, stage: str) -> None:
        trainer: Any = self.trainer
        data = trainer.datamodule
        datasets = {"val": data.val, "test": data.test} if isinstance(data, VideoDataModule) else {}
        dataset: VideoDataset | None = datasets.get(stage)
        if dataset is None and self.protocol is None:
            raise ValueError(
                f"Expected a `protocol` where no VideoDataModule says by `{stage}` what is measured, but got None; "
                "pass one of `evaluation.protocols`"
            )
        protocol = self.protocol or protocol_of(type(dataset).__name__)()
        if protocol.together:
            raise ValueError(
                f"Expected a protocol that measures each expression for itself, but got {type(protocol).__name__}: "
                "write masks by `thinkseg predict` and measure them by `thinkseg evaluate`"
            )
        for group in {record.group for record in dataset.index} if dataset is not None else ():
            protocol.row(group)  # says now what it would say of a sample in the middle of the run
        self.metrics = VideoMetrics(protocol).to(self.device)
        rank_zero_info(", ".join(f"{name}: {value}" for name, value in protocol.setting().items()))

    def _measure(self, episode: Episode, scores: Scores) -> None:
        assert self.metrics is not None, "measuring has been started"
        reward = float(scores.total[0]) if self.rewards.rewards else None
        self.metrics.update(prediction_of(episode), Truth.of(episode.sample), episode.sample.meta.get("group"), reward)

    def _report(self, stage: str) -> None:
        assert self.metrics is not None, "measuring has been started"
        self.results = self.metrics.compute()
        self.metrics.reset()
        self.rewards.reset()
        flat = {f"{stage}/{group}/{name}": value for group, row in self.results.items() for name, value in row.items()}
        # what ModelCheckpoint monitors, whatever the benchmark measures; file names cannot hold a slash
        flat[f"{stage}_score"] = self.results["overall"][self.metrics.protocol.headline]
        self.log_dict(flat)
        self.log(f"{stage}/segmenter_failures", float(self.segmenter_failures), reduce_fx="sum", sync_dist=True)
        self.segmenter_failures = 0


def prediction_of(episode: Episode) -> Prediction:
    """Return what an episode predicts at the frames that count: a track for each object it points at.

    Raises:
        ValueError: if it has not been segmented at each of them.
    """
    turn, times = episode.last, scored_times(episode.sample)
    if turn.masks is None or turn.mask_frames != list(range(episode.sample.num_frames)):
        raise ValueError(
            f"Expected masks at every frame of {episode.sample.key!r}, but got them at {len(turn.mask_frames)} of "
            f"{episode.sample.num_frames}: {turn.failure or 'not asked'}"
        )
    return Prediction((len(times), *episode.sample.size), [BitMasks.of(track[times]) for track in turn.masks])
