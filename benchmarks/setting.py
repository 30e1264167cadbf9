"""What the benchmarks of a training step share: one video, one question, a group of answers."""

import torchvision_shim  # noqa: F401, I001

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from transformers import AutoModelForImageTextToText, AutoProcessor

from benchmarks.measuring import processor
from benchmarks.random_models import WORDS, save_mid_size, save_qwen2_5_vl_3b
from benchmarks.trl_peer import conversation
from datamodules.structures import LazyStack, VideoSample
from dialogues.chat import Chat, Exact, Frame, Message, Text
from dialogues.episode import Answer, Completion, Episode, Turn
from models.reasoners import QwenVL


@dataclass(frozen=True)
class Setting:
    """One group: a video, a question, and as many answers as the group is large.

    Args:
        device: where everything is computed.
        frames: of the video, all of them shown.
        side: of a frame in pixels.
        filler: bytes of text after the question, for prompts that are to be longer.
        group_size: answers.
        length: tokens of an answer: the mean, where lengths differ.
        hidden_size: width of the mid-size model.
        num_layers: its depth.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    frames: int = 12
    side: int = 364
    filler: int = 0
    group_size: int = 8
    length: int = 200
    hidden_size: int = 256
    num_layers: int = 8

    @classmethod
    def add_options(cls, parser: ArgumentParser, **defaults: int) -> None:
        """Add options for a setting on a CPU.

        Args:
            parser: to add them to.
            **defaults: that differ from the fields'.
        """
        parser.add_argument("--threads", type=int, default=1)
        for field in fields(cls):
            if field.name != "device":
                default = defaults.get(field.name, field.default)
                parser.add_argument(f"--{field.name}", type=int, default=default, help=f"on a CPU; default: {default}")

    @classmethod
    def of(cls, arguments: Namespace, gpu_length: int) -> "Setting":
        """Return the setting that the options ask for; on a GPU a prompt of 7,100 tokens, 6,936 of them six frames.

        Args:
            arguments: of the command line.
            gpu_length: tokens of an answer on a GPU.
        """
        if arguments.device == "cuda":
            return cls("cuda", frames=6, side=952, filler=121, length=gpu_length)
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    @property
    def full_size(self) -> bool:
        """Whether the model is of the size of Qwen2.5-VL-3B, in bfloat16, with gradient checkpointing."""
        return self.device == "cuda"

    def varied(self, **changes: Any) -> "Setting":
        """Return the setting with changes."""
        return replace(self, **changes)

    def save_model(self, folder: Path) -> None:
        """Write the model as a Hugging Face folder."""
        if self.full_size:
            save_qwen2_5_vl_3b(folder, self.device, self.side)
        else:
            save_mid_size(folder, self.hidden_size, self.num_layers, self.side)

    def reasoner(self, folder: Path, prefix_sharing: bool = True) -> QwenVL:
        """Return the policy, all of whose weights are trained."""
        reasoner = QwenVL(
            str(folder),
            prefix_sharing=prefix_sharing,
            dtype="bfloat16" if self.full_size else "float32",
            gradient_checkpointing=self.full_size,
        )
        reasoner.configure()
        return reasoner.to(self.device)

    def stock(self, folder: Path) -> tuple[Any, Any]:
        """Return the same model and its processor as transformers has them."""
        dtype = torch.bfloat16 if self.full_size else torch.float32
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        return model.to(self.device), AutoProcessor.from_pretrained(folder)

    def stock_inputs(self, processor: Any) -> dict[str, Tensor]:
        """Return the question as transformers encodes it."""
        sample = self.sample()
        chat = self.chat(sample)
        images = [to_pil_image(sample.frames.at(frame.index)) for frame in chat.frames]
        text = processor.apply_chat_template(conversation(chat), tokenize=False, add_generation_prompt=True)
        return dict(processor(images=images, text=[text], return_tensors="pt"))

    def sample(self) -> VideoSample:
        """Return the video as if it had just been read: nobody has encoded anything of it; frames are noise."""
        shape = (self.frames, 3, self.side, self.side)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        masks = torch.zeros(1, self.frames, self.side, self.side, dtype=torch.bool)
        masks[..., self.side // 4 : self.side // 2, self.side // 4 : self.side // 2] = True
        expression = WORDS[1]
        return VideoSample(
            "noise", "0", expression, list(range(self.frames)), LazyStack.of(frames), LazyStack.of(masks, dim=1)
        )

    def chat(self, sample: VideoSample) -> Chat:
        """Return the question."""
        shown = tuple(range(self.frames))
        text = Text(sample.expression + "." * self.filler, "question")
        content: list[Frame | Text] = [Frame(time, Exact(self.side, self.side)) for time in shown]
        return Chat((Message("user", (*content, text)),), sample.size, tuple(sample.frame_ids), shown)

    def episodes(self) -> list[Episode]:
        """Return the group: answers of random bytes, the longest twice as long as the shortest."""
        sample = self.sample()
        chat = self.chat(sample)
        generator = torch.Generator().manual_seed(1)
        episodes = []
        for length in lengths(self.group_size, self.length):
            ids = torch.randint(0, 256, (length,), generator=generator).tolist()
            episodes.append(Episode(sample, chat, [Turn(Completion(ids, "", finished=False), Answer())]))
        return episodes

    def rewards(self) -> Tensor:
        """Return the rewards of the group, ``float64 (G,)``."""
        return torch.rand(self.group_size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def lengths(group_size: int, mean: int) -> list[int]:
    """Return how long the answers of a group are: evenly spread from two to four thirds of the mean.

    >>> lengths(4, 30)
    [20, 27, 33, 40]
    """
    if group_size == 1:
        return [mean]
    shortest, longest = 2 * mean / 3, 4 * mean / 3
    return [round(shortest + (longest - shortest) * place / (group_size - 1)) for place in range(group_size)]


@contextmanager
def model_folder(setting: Setting) -> Iterator[Path]:
    """Give a folder with the model of a setting."""
    with TemporaryDirectory() as folder:
        setting.save_model(Path(folder))
        yield Path(folder)


def described(setting: Setting, **more: Any) -> dict[str, Any]:
    """Return what a result was measured on."""
    versions = {name: version(name) for name in ("torch", "transformers", "trl")}
    return (
        asdict(setting) | {"processor": processor(setting.device), "threads": torch.get_num_threads()} | versions | more
    )
