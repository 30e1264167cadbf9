"""Reasoning video object segmentation as a Lightning module: what validate, test and predict do."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule

from datamodules.structures import VideoSample
from dialogues.base import Dialogue
from dialogues.episode import Episode
from evaluation.cases import Prediction, Truth
from evaluation.functional import BitMasks
from evaluation.protocols import BenchmarkProtocol, ReVOSProtocol
from evaluation.video_metrics import VideoMetrics
from lightning_modules.parallelism import Parallelism
from lightning_modules.rollout import rollout
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
        protocol: how per-video numbers become a table.
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
        self.metrics = VideoMetrics(protocol or ReVOSProtocol())
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

    def transfer_batch_to_device(self, batch: list[VideoSample], device: torch.device, dataloader_idx: int) -> Any:
        """Leave samples where they are: frames are read lazily, and each part moves what it needs."""
        return batch

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

    def _rollout(
        self,
        batch: Sequence[VideoSample],
        group_size: int = 1,
        sampling: Sampling | None = None,
        segment_frames: Literal["shown", "all"] = "all",
        masks: bool = True,
    ) -> list[list[Episode]]:
        segmenter = self.segmenter if masks else None
        return rollout(
            batch,
            self.reasoner,
            self.dialogue,
            None if segmenter is None else segmenter.to(self.device),
            self.frame_sampler,
            group_size,
            sampling or Sampling(self.max_completion_length),
            segment_frames,
            self.on_segmenter_error,
        )

    def _answers(self, batch: Sequence[VideoSample]) -> list[list[Episode]]:
        """Answer each sample once; what a broken model says is no answer that could be scored."""
        groups = self._rollout(batch)
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

    def _measure(self, episode: Episode, scores: Scores) -> None:
        sample = episode.sample
        reward = float(scores.total[0]) if self.rewards.rewards else None
        times = list(range(sample.num_frames)) if sample.scored is None else sample.scored
        assert sample.masks is not None
        objects = [BitMasks.of(each) for each in sample.masks.stack(times)]
        foreground, void = (
            None if stack is None else BitMasks.of(stack.stack(times)) for stack in (sample.foreground, sample.void)
        )
        shape = (len(times), *sample.size)
        prediction = Prediction(shape, [BitMasks.of(episode.prediction[times])])
        self.metrics.update(prediction, Truth(shape, objects, foreground, void), sample.meta.get("group"), reward)

    def _report(self, stage: str) -> None:
        self.results = self.metrics.compute()
        self.metrics.reset()
        self.rewards.reset()
        flat = {f"{stage}/{group}/{name}": value for group, row in self.results.items() for name, value in row.items()}
        overall = self.results.get("overall", {})
        if "JF" in overall:
            flat[f"{stage}_JF"] = overall["JF"]  # what ModelCheckpoint monitors; file names cannot hold a slash
        self.log_dict(flat)
        self.log(f"{stage}/segmenter_failures", float(self.segmenter_failures), reduce_fx="sum", sync_dist=True)
        self.segmenter_failures = 0
