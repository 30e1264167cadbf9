"""Who takes part in ``benchmarks/grpo_step.py``: each takes whole steps, and says where the time went."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from benchmarks.measuring import wait
from benchmarks.random_models import small_sam2
from benchmarks.setting import Setting
from benchmarks.trl_peer import build_trainer
from datamodules.structures import VideoSample
from dialogues.base import Dialogue
from dialogues.chat import Chat
from dialogues.episode import Answer, Completion, Episode, Turn
from lightning_modules import AdamWConfig, GRPOModule
from models.frame_samplers import AllFrames
from models.segmenters import Prompt, SAM2Segmenter
from rewards import MaskConsistency

PHASES = ("rollout", "segment", "reward", "logprobs", "update")


class AnyText(Dialogue):
    """Asks as a setting does, and reads a keyframe and a box into any text: a model without training says nothing else.

    Args:
        setting: of the question.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def ask(self, sample: VideoSample, shown: Sequence[int]) -> Chat:
        """Return the question of the setting."""
        return self.setting.chat(sample)

    def read(self, text: str, chat: Chat, released: bool = False) -> Answer:
        """Return an answer that depends on every character: any shown frame, and a box of half the frame's sides."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=3).digest()
        height, width = chat.size
        top, left = height * digest[1] / 512, width * digest[2] / 512
        box = torch.tensor([[left, top, left + width / 2, top + height / 2]], dtype=torch.float64)
        return Answer("", chat.shown[digest[0] % len(chat.shown)], box)

    def write(self, answer: Answer, chat: Chat) -> str:
        """Refuse: there is no text of an answer."""
        raise NotImplementedError("An answer is read from a digest, which cannot be inverted")


# --- ours --------------------------------------------------------------------------------------------------------


class OurStep(Callback):
    """``GRPOModule`` in Lightning's trainer, one step at a time, each on a video that nobody has seen.

    Args:
        setting: the group.
        folder: the model.
    """

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        reasoner = setting.reasoner(folder)
        # No answer ends: everyone writes as much.
        reasoner.suppressed_tokens = torch.cat([reasoner.suppressed_tokens, reasoner.stop_tokens])
        self.module = GRPOModule(
            reasoner=reasoner,
            dialogue=AnyText(setting),
            segmenter=small_sam2(),
            frame_sampler=AllFrames(),
            rewards={"masks": MaskConsistency()},
            num_generations=setting.group_size,
            max_completion_length=setting.length,
            optimizer=AdamWConfig(weight_decay=0.0),
        )
        self.folder = folder
        self.seconds: dict[str, float] = {}

    def step(self) -> dict[str, float]:
        """Take a step, and return the seconds of it and of its phases."""
        trainer = Trainer(
            accelerator="cpu" if self.setting.device == "cpu" else "gpu",
            devices=1,
            max_steps=1,
            callbacks=[self],
            default_root_dir=self.folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.module, DataLoader([self.setting.sample()], batch_size=1, collate_fn=list))  # type: ignore[arg-type]
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.mean_length = logged["completions/mean_length"]
        return {"step": self.seconds["step"]} | {phase: logged[f"step_time/{phase}"] for phase in PHASES}

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        wait(self.setting.device)
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the clock."""
        wait(self.setting.device)
        self.seconds["step"] = time.perf_counter() - self._started


# --- TRL ---------------------------------------------------------------------------------------------------------


class TRLStep(TrainerCallback):
    """TRL's trainer, one step at a time; its reward runs a session of transformers' SAM 2 for each completion.

    Args:
        setting: the group.
        folder: the model.
    """

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.sample = setting.sample()
        self.dialogue = AnyText(setting)
        self.chat = setting.chat(self.sample)
        self.segmenter = small_sam2().to(setting.device)
        self.scorer = MaskConsistency()
        never = setting.reasoner(folder)
        model, processor = setting.stock(folder)
        self.trainer = build_trainer(
            model,
            processor,
            [self.sample],
            [self.chat],
            [self.masks],
            folder / "trl",
            setting.group_size,
            device=setting.device,
            gradient_checkpointing=setting.full_size,
            max_completion_length=setting.length,
            max_steps=1,
            generation_kwargs={"suppress_tokens": torch.cat([never.suppressed_tokens, never.stop_tokens]).tolist()},
        )
        self.trainer.add_callback(self)
        self.trainer._generate_single_turn = self._clocked("rollout", self.trainer._generate_single_turn)
        self.trainer._prepare_inputs = self._clocked("prepared", self.trainer._prepare_inputs)
        self.seconds: dict[str, float] = {}

    def step(self) -> dict[str, float]:
        """Take a step, and return the seconds of it and of its phases."""
        self.seconds = dict.fromkeys((*PHASES, "prepared"), 0.0)
        self.trainer.train()
        self.seconds["update"] = self.seconds["step"] - self.seconds.pop("prepared")
        return self.seconds

    def masks(self, completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        """Return the reward of each completion: what ours is, by one session each."""
        self.mean_length = statistics.mean(map(len, completion_ids))
        texts = [message["content"] for (message,) in completions]
        episodes = [self._segmented(text) for text in texts]
        with self._clock("reward"):
            return [self.scorer.score(episode) for episode in episodes]

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        wait(self.setting.device)
        self._started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock."""
        wait(self.setting.device)
        self.seconds["step"] = time.perf_counter() - self._started

    def _segmented(self, text: str) -> Episode:
        times = list(range(self.sample.num_frames))
        answer = self.dialogue.read(text, self.chat)
        with self._clock("segment"):
            masks = session_masks(self.segmenter, self.sample.frames.stack(), answer)
        return Episode(self.sample, self.chat, [Turn(Completion([], text), answer, times, masks)])

    def _clocked(self, phase: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            with self._clock(phase):
                return method(*arguments, **options)

        return call

    @contextlib.contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        wait(self.setting.device)
        started = time.perf_counter()
        yield
        wait(self.setting.device)
        self.seconds[phase] += time.perf_counter() - started


@torch.no_grad()
def session_masks(segmenter: SAM2Segmenter, frames: Tensor, answer: Answer) -> Tensor:
    """Segment one answer by transformers alone, each direction by itself.

    Args:
        segmenter: whose model and processor are used.
        frames: ``uint8 (T, 3, H, W)`` RGB.
        answer: with a keyframe and boxes.

    Returns:
        ``bool (M, T, H, W)`` on the CPU.
    """
    model, processor = segmenter.model, segmenter.processor
    assert answer.keyframe is not None
    session = processor.init_video_session(video=frames, inference_device=segmenter.device, dtype=segmenter.dtype)
    logits: dict[int, Tensor] = {}
    for reverse in (False, True):
        session.reset_tracking_data()
        processor.add_inputs_to_inference_session(
            session,
            frame_idx=answer.keyframe,
            obj_ids=list(range(len(answer.boxes))),
            input_boxes=answer.boxes.float()[None],
        )
        for output in model.propagate_in_video_iterator(session, answer.keyframe, reverse=reverse):
            if reverse is False or output.frame_idx != answer.keyframe:
                logits[output.frame_idx] = output.pred_masks
    size = [frames.shape[-2], frames.shape[-1]]
    planes = processor.post_process_masks([logits[time] for time in range(len(frames))], [size] * len(frames))
    return torch.stack([plane[:, 0].cpu() for plane in planes], dim=1)


def expect_equal_masks(setting: Setting, segment: Callable[..., list[Tensor]], tolerance: float = 1e-4) -> float:
    """Compare the masks of our segmenter with those of the sessions, for a group of answers.

    Args:
        setting: of the video and the size of the group.
        segment: ours.
        tolerance: share of the pixels that may differ, where a logit is 0 but for rounding.

    Returns:
        The share that does.

    Raises:
        ValueError: if it is larger.
    """
    sample, segmenter = setting.sample(), small_sam2().to(setting.device)
    chat = setting.chat(sample)
    answers = [AnyText(setting).read(str(number), chat) for number in range(setting.group_size)]
    frames = sample.frames.stack()
    prompts = [Prompt(answer.keyframe or 0, answer.boxes) for answer in answers]
    ours = torch.stack(segment(frames, prompts, range(len(frames))))
    theirs = torch.stack([session_masks(segmenter, frames, answer) for answer in answers])
    share = float((ours != theirs).double().mean())
    if share > tolerance or not theirs.any() or theirs.all():
        raise ValueError(
            f"Expected masks of something that are those of the sessions, but {share:.2g} of the pixels differ, and "
            f"{float(theirs.double().mean()):.2g} of theirs belong to an object"
        )
    return share
