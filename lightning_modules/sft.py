"""Supervised fine-tuning on chains of thought."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from datamodules.conversations import Conversation
from datamodules.structures import VideoSample
from dialogues.episode import Answer, Episode, Turn
from lightning_modules.training import TrainingModule


class SFTModule(TrainingModule):
    """Learns to give known answers: the mean negative log-likelihood of the assistant's tokens, over all ranks.

    The answer is written by the same dialogue that reads and grades it in GRPO, behind the same prompt, so the stages
    cannot disagree. Samples come from a ``ConversationDataset``.
    """

    def training_step(self, batch: list[VideoSample], batch_idx: int) -> None:
        """Take one step on a batch."""
        with self._phase("update"):
            episodes = [self._episode(sample) for sample in batch]
            self._step(episodes, self._losses(episodes))

    def _losses(self, episodes: Sequence[Episode]) -> Iterator[Tensor]:
        tokens = self._global_sum(sum(len(episode.last.completion.token_ids) for episode in episodes))
        for chunk in self._chunks(episodes):
            output = self.reasoner.logprobs(episodes[chunk])
            # Gradients are averaged over ranks, so each rank's share is scaled by their number.
            yield -output.logprobs.sum() * (self.trainer.world_size / tokens)

    def _episode(self, sample: VideoSample) -> Episode:
        conversation = sample.meta.get("conversation")
        if not isinstance(conversation, Conversation):
            raise TypeError(
                f"Expected {sample.key!r} to hold a conversation, but got {conversation!r}: use a ConversationDataset"
            )
        chat = self.dialogue.ask(sample, range(sample.num_frames))
        answer = Answer(conversation.thinking, conversation.keyframe, conversation.boxes)
        completion = self.reasoner.encode(self.dialogue.write(answer, chat))
        return Episode(sample, chat, [Turn(completion, answer)])
