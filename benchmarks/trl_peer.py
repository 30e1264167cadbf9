"""TRL's ``GRPOTrainer`` as the peer of our training step: fed with our samples, chats and models."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from torchvision.transforms.v2.functional import to_pil_image
from transformers import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from datamodules.structures import VideoSample
from dialogues.chat import Chat, Frame


def build_trainer(
    model: Any,
    processor: Any,
    samples: Sequence[VideoSample],
    chats: Sequence[Chat],
    rewards: Sequence[Callable[..., Any]],
    folder: Path,
    num_generations: int,
    accumulation: int = 1,
    device: str = "cpu",
    peft_config: Any = None,
    **settings: Any,
) -> Any:
    """Return a trainer whose step is one group per sample, with TRL's defaults where they make no work of their own.

    Args:
        model: a transformers model; it is changed.
        processor: that of the model.
        samples: what it is asked about.
        chats: one per sample.
        rewards: TRL's reward functions.
        folder: where it may write.
        num_generations: answers per sample.
        accumulation: micro-batches per step.
        device: where everything is computed.
        peft_config: of adapters.
        **settings: of ``GRPOConfig``.
    """
    defaults: dict[str, Any] = {
        "gradient_checkpointing": False,
        "bf16": False,  # autocast; the dtype of the weights is the model's
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device == "cuda",
        "shuffle_dataset": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    config = GRPOConfig(
        output_dir=str(folder),
        num_generations=num_generations,
        per_device_train_batch_size=len(samples) * num_generations // accumulation,
        gradient_accumulation_steps=accumulation,
        **defaults | settings,
    )
    trainer: Any = GRPOTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=list(rewards),
        args=config,
        train_dataset=rows(samples, chats),
        peft_config=peft_config,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def rows(samples: Sequence[VideoSample], chats: Sequence[Chat]) -> Dataset:
    """Return chats as TRL takes them: images have placeholders in the prompt and a column of their own."""
    return Dataset.from_list(
        [
            {
                "prompt": conversation(chat),
                "images": [to_pil_image(sample.frames.at(frame.index)) for frame in chat.frames],
            }
            for sample, chat in zip(samples, chats, strict=True)
        ]
    )


def scored_batch(trainer: Any) -> dict[str, Any]:
    """Let a trainer write and score completions for its first batch, ready for its loss."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    batch: dict[str, Any] = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    return batch


def micro_batches(trainer: Any, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Split a scored batch as the trainer does for its accumulation of gradients, in order."""
    split: Any = split_pixel_values_by_grid(batch)
    parts: Any = split_tensor_dict(split, trainer.args.gradient_accumulation_steps)
    return [unsplit_pixel_values_by_grid(part) for part in parts]


def dictate(trainer: Any, written: list[list[int]]) -> None:
    """Let a trainer write these completions instead of its own."""
    trainer._generate_single_turn = lambda *_, **__: (written, None)


def conversation(chat: Chat) -> list[dict[str, Any]]:
    """Return the messages of a chat as processors take them, with placeholders for images."""
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
