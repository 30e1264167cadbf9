"""TRL's ``GRPOTrainer`` as the oracle: it writes and scores completions, and differentiates its own loss."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torchvision.transforms.v2.functional import to_pil_image
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from dialogues.chat import Chat, Frame
from dialogues.episode import Completion
from tests.lightning_modules.replay import DEFAULTS, Problem, Score, Step, Weights, gradients, load


class Oracle:
    """A ``GRPOTrainer`` that has written and scored one batch.

    Args:
        problem: what it trains on.
        folder: where it may write.
        accumulation: micro-batches per step.
        **settings: of ``GRPOConfig``.
    """

    def __init__(self, problem: Problem, folder: Path, accumulation: int = 1, **settings: Any) -> None:
        self.accumulation = accumulation
        settings = DEFAULTS | settings
        reasoner = problem.reasoner
        self.trainer = GRPOTrainer(
            model=deepcopy(problem.base),
            processing_class=reasoner.processor,
            reward_funcs=[_reward(name, score) for name, score in problem.scores.items()],
            args=GRPOConfig(
                output_dir=str(folder),
                per_device_train_batch_size=len(problem.samples) * settings["num_generations"] // accumulation,
                gradient_accumulation_steps=accumulation,
                reward_weights=problem.reward_weights,
                shuffle_dataset=False,
                seed=1,
                gradient_checkpointing=False,
                use_cpu=True,
                bf16=False,
                report_to=[],
                # A likelier end: lengths differ, and some completions are cut off.
                generation_kwargs={"sequence_bias": [[[reasoner.end_token], 4.0]]},
                **settings,
            ),
            train_dataset=_dataset(problem),
            peft_config=reasoner.lora and reasoner.lora.config(),
        )
        load(self.trainer.model.train(), problem.policies[0])
        self.trainer.current_gradient_accumulation_steps = accumulation
        self.batch = self.trainer._generate_and_score_completions(next(iter(self.trainer.get_train_dataloader())))
        self.rollout_metrics = self._metrics()

    def completions(self) -> list[list[Completion]]:
        """Return what was written, one group per sample."""
        tokenizer, ends = self.trainer.processing_class.tokenizer, self.trainer.eos_token_ids
        rows = []
        for padded in self.batch["completion_ids"].tolist():
            length = next((index + 1 for index, token in enumerate(padded) if token in ends), len(padded))
            text = tokenizer.decode(padded[:length], skip_special_tokens=True)
            rows.append(Completion(padded[:length], text, finished=padded[length - 1] in ends))
        size = self.trainer.num_generations
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def step(self, weights: Weights) -> Step:
        """Return what ``_compute_loss`` makes of the batch at a policy, over all micro-batches."""
        model = self.trainer.model
        load(model, weights)
        model.zero_grad()
        parts = split_tensor_dict(split_pixel_values_by_grid(self.batch), self.accumulation)
        losses = [self.trainer._compute_loss(model, unsplit_pixel_values_by_grid(part)) for part in parts]
        total = torch.stack(losses).sum()
        total.backward()
        return Step(total.item(), gradients(model), self.batch["advantages"], self.rollout_metrics | self._metrics())

    def _metrics(self) -> dict[str, float]:
        return {name: values[-1] for name, values in self.trainer._metrics["train"].items()}


def _dataset(problem: Problem) -> Dataset:
    rows = []
    for sample, chat in zip(problem.samples, problem.chats, strict=True):
        images = [to_pil_image(sample.frames.at(frame.index)) for frame in chat.frames]
        rows.append({"prompt": _messages(chat), "images": images})
    return Dataset.from_list(rows)


def _messages(chat: Chat) -> list[dict[str, Any]]:
    """Return a chat as TRL takes it: images have placeholders here and a column of their own."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "image", "text": None} if isinstance(part, Frame) else {"type": "text", "text": part.text}
                for part in message.content
            ],
        }
        for message in chat.messages
    ]


def _reward(name: str, score: Score) -> Callable[..., list[float | None]]:
    def reward(completions: Sequence[list[dict[str, str]]], **_: Any) -> list[float | None]:
        return [score(message["content"]) for (message,) in completions]

    reward.__name__ = name
    return reward
