"""Rollouts to look at: what was asked, answered, pointed at and segmented, and what it was worth."""

import logging
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from datamodules.files import to_json, write_atomically
from dialogues.chat import Chat, Frame
from dialogues.episode import Episode
from evaluation.images import encode_png
from lightning_modules.callbacks.base import RunCallback
from lightning_modules.callbacks.records import answer_record, score_record, scored_groups
from lightning_modules.pictures import group_picture
from rewards.base import Scores

logger = logging.getLogger(__name__)


class RolloutLogger(RunCallback):
    """Shows answers in TensorBoard, and writes the same to ``<run folder>/rollouts/``.

    Every ``every_n_steps`` optimiser steps, the first groups of the training batch; at every validation, the first
    samples of the validation set, so that one can watch the same questions being answered better. For each: the prompt,
    each answer with its rewards as text, and a film strip per answer with predicted and true masks. On disk,
    ``train-00000050.jsonl`` holds a line per answer, ``train-00000050-0.png`` the film strips of the first group.

    Only rank zero writes. A disk that is full costs the pictures, not the run.

    Args:
        every_n_steps: optimiser steps between two logs of training rollouts.
        num_samples: groups per log.
        max_frames: most frames of a film strip.

    Raises:
        ValueError: if a number is below 1.
    """

    def __init__(self, every_n_steps: int = 50, num_samples: int = 2, max_frames: int = 6) -> None:
        for name, value in {
            "every_n_steps": every_n_steps,
            "num_samples": num_samples,
            "max_frames": max_frames,
        }.items():
            if value < 1:
                raise ValueError(f"Expected `{name}` to be at least 1, but got {value}")
        self.every_n_steps = every_n_steps
        self.num_samples = num_samples
        self.max_frames = max_frames
        self._period = -1
        self._validated: list[tuple[list[Episode], Scores]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with the first batch, or in the middle of a period after a resume."""
        self._period = trainer.global_step // self.every_n_steps if trainer.global_step else -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the first groups of the batch, if it is time."""
        groups = list(scored_groups(outputs))[: self.num_samples]
        # A batch may take several optimiser steps, so a multiple of the period can be stepped over.
        period = trainer.global_step // self.every_n_steps
        if groups and period > self._period:
            self._period = period
            self._show(trainer, "train", groups)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the samples of the last validation."""
        self._validated = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first samples."""
        missing = self.num_samples - len(self._validated)
        self._validated += list(scored_groups(outputs))[:missing]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the first samples."""
        if self._validated and not trainer.sanity_checking:
            self._show(trainer, "validation", self._validated)
        self._validated = []

    def _show(self, trainer: Trainer, stage: str, groups: Sequence[tuple[list[Episode], Scores]]) -> None:
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        boards = [board.experiment for board in trainer.loggers if isinstance(board, TensorBoardLogger)]
        lines: list[str] = []
        try:
            for number, (group, scores) in enumerate(groups):
                picture = group_picture(group, scores, self.max_frames)
                for board in boards:
                    board.add_text(f"rollouts/{stage}/{number}", markdown(group, scores), step)
                    board.add_image(f"rollouts/{stage}/{number}", picture, step)
                write_atomically(self.run / "rollouts" / f"{stage}-{step:08d}-{number}.png", encode_png(picture))
                for member, episode in enumerate(group):
                    record = {"step": step, "group": number, "member": member, **score_record(scores, member)}
                    lines.append(to_json(record | answer_record(episode)))
            write_atomically(
                self.run / "rollouts" / f"{stage}-{step:08d}.jsonl", "".join(f"{line}\n" for line in lines).encode()
            )
        except OSError as error:
            logger.warning("Rollouts of step %d were not written to '%s': %s", step, self.run, error)


def transcript(chat: Chat) -> str:
    """Return a chat as text, with frames by their position in the video."""
    return "\n\n".join(
        f"[{message.role}]\n"
        + "\n".join(
            f"<frame {chat.frame_ids[part.index]}>" if isinstance(part, Frame) else part.text
            for part in message.content
        )
        for message in chat.messages
    )


def markdown(group: Sequence[Episode], scores: Scores) -> str:
    """Return a group as Markdown: the question, a table of rewards, the prompt, and each answer's text.

    What a model or a dataset wrote stands in indented blocks, in which nothing is markup.
    """
    names = list(scores.parts)
    table = ["| answer | reward | " + " | ".join([*names, "tokens"]) + " |", "|---" * (len(names) + 3) + "|"]
    for member, episode in enumerate(group):
        values = [scores.total[member], *(scores.parts[name][member] for name in names)]
        cells = ["n/a" if value.isnan() else f"{value.item():.3f}" for value in values]
        table.append(f"| {member} | " + " | ".join([*cells, str(len(episode.last.completion.token_ids))]) + " |")
    sample = group[0].sample
    parts = [_verbatim(f"{sample.expression}\n({sample.key})"), "\n".join(table)]
    parts += ["**prompt**", _verbatim(transcript(group[0].chat))]
    for member, episode in enumerate(group):
        ending = "" if episode.last.completion.finished else " (cut off)"
        parts += [f"**answer {member}**{ending}", _verbatim(episode.last.completion.text)]
    return "\n\n".join(parts)


def _verbatim(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
