"""Supervised fine-tuning on chains of thought."""

from dataclasses import replace

from torch import Tensor

from datamodules.conversations import Conversation
from datamodules.structures import VideoSample
from dialogues.chat import Chat
from dialogues.episode import Answer, Episode, Turn
from lightning_modules.training import TrainingModule


class SFTModule(TrainingModule):
    """Learns to give known answers: the mean negative log-likelihood of the assistant's tokens, over all ranks.

    The answer is written by the same dialogue that reads and grades it in GRPO, behind the same prompt, so the stages
    cannot disagree. Samples come from a ``ConversationDataset``.
    """

    def prepare(self, sample: VideoSample) -> None:
        """Process all frames of a sample to learn from: conversations may be about any of them."""
        if "conversations" in sample.meta:
            self.reasoner.prepare(sample, self._ask(sample))
        else:
            super().prepare(sample)

    def training_step(self, batch: list[VideoSample], batch_idx: int) -> None:
        """Take one step on a batch."""
        with self._phase("update"):
            episodes = [episode for sample in batch for episode in self._episodes(sample)]
            tokens = self._global_sum(sum(len(episode.last.completion.token_ids) for episode in episodes))

            def share(_: int, chunk: slice) -> Tensor:
                # Gradients are averaged over ranks, so each rank's share is scaled by their number.
                return -self._policy(episodes[chunk]).logprobs.sum() * (self.trainer.world_size / max(tokens, 1))

            self._step(episodes, self._chunks(episodes), share)

    def _episodes(self, sample: VideoSample) -> list[Episode]:
        """Return an episode for each conversation about a sample; consecutive ones share its frames."""
        conversations = sample.meta.get("conversations")
        if not conversations:
            raise ValueError(f"Expected conversations about {sample.key!r}, but got none: use a ConversationDataset")
        return [self._episode(replace(sample, expression=each.expression), each) for each in conversations]

    def _episode(self, sample: VideoSample, conversation: Conversation) -> Episode:
        chat = self._ask(sample)
        answer = Answer(conversation.thinking, conversation.keyframe, conversation.boxes)
        completion = self.reasoner.encode(self.dialogue.write(answer, chat))
        return Episode(sample, chat, [Turn(completion, answer)])

    def _ask(self, sample: VideoSample) -> Chat:
        return self.dialogue.ask(sample, range(sample.num_frames))
