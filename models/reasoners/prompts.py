"""From a chat to the tensors a Qwen-VL model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from datamodules.structures import VideoSample
from dialogues.chat import Chat, Exact, Frame, Message
from models.reasoners.pictures import Picture, PictureMemory


@dataclass
class EncodedImages:
    """Frames as a vision tower reads them.

    Args:
        pixel_values: ``float32 (patches, channels)``, the patches of all images.
        grid: ``int64 (images, 3)``, patches of each image over time, height and width.
    """

    pixel_values: Tensor
    grid: Tensor

    @classmethod
    def concatenate(cls, parts: Sequence["EncodedImages"]) -> "EncodedImages":
        """Return all images, in order; there may be none."""
        if not parts:
            return cls(torch.zeros(0, 0), torch.zeros(0, 3, dtype=torch.long))
        return cls(torch.cat([part.pixel_values for part in parts]), torch.cat([part.grid for part in parts]))


class PromptEncoder:
    """Turns frames into patches, once as long as a sample lives, and renders chats with the processor's own template.

    Two threads may encode at once.

    Args:
        processor: of a Qwen2.5-VL or Qwen3-VL model.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.image_token = int(processor.image_token_id)
        images = processor.image_processor
        self.merge_area = int(images.merge_size) ** 2
        self.factor = int(images.patch_size) * int(images.merge_size)
        self._encoded: PictureMemory[EncodedImages] = PictureMemory()

    def images(self, sample: VideoSample, chat: Chat) -> EncodedImages:
        """Encode the frames of a chat."""
        return EncodedImages.concatenate([self.picture(Picture(sample.frames, frame)) for frame in chat.frames])

    def picture(self, picture: Picture) -> EncodedImages:
        """Cut a frame into patches, once as long as its sample lives."""
        if picture not in self._encoded:
            pixels = self._pixels(picture)
            patches = self.processor.image_processor(images=[pixels], do_resize=False, return_tensors="pt")
            self._encoded[picture] = EncodedImages(patches["pixel_values"], patches["image_grid_thw"])
        return self._encoded[picture]

    def tokens(self, chat: Chat, grid: Tensor) -> Tensor:
        """Encode a chat, ready for the assistant's next words.

        Args:
            chat: what was said so far.
            grid: of its images.

        Returns:
            Token ids ``int64 (P,)`` with one image placeholder per merged patch.
        """
        text = self.processor.apply_chat_template(
            [_message(message) for message in chat.messages], tokenize=False, add_generation_prompt=True
        )
        ids = torch.tensor(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        repeats = torch.ones_like(ids)
        repeats[ids == self.image_token] = self.placeholders(grid)
        return ids.repeat_interleave(repeats)

    def placeholders(self, grid: Tensor) -> Tensor:
        """Return how many tokens stand for each image, ``int64 (images,)``."""
        return grid.prod(dim=1) // self.merge_area

    def _pixels(self, picture: Picture) -> Tensor:
        """Return a frame at the size that is asked for, ``uint8 (3, H, W)``."""
        pixels, resize = picture.frames.at(picture.frame.index), picture.frame.resize
        height, width = pixels.shape[-2:]
        if isinstance(resize, Exact):
            wanted, filtering = (resize.height, resize.width), Image.Resampling.BILINEAR
        else:
            wanted = smart_resize(height, width, resize.factor, resize.min_pixels, resize.max_pixels)
            filtering = Image.Resampling.BICUBIC
        if wanted[0] % self.factor or wanted[1] % self.factor:
            raise ValueError(f"Expected image sides to be multiples of {self.factor} (patch × merge), but got {wanted}")
        if wanted == (height, width):
            return pixels
        # Pillow's filter, not torch's: the published systems resize with it, and the two differ in the last bit.
        image: Image.Image = transforms.to_pil_image(pixels).resize((wanted[1], wanted[0]), filtering)
        resized: Tensor = transforms.pil_to_tensor(image)
        return resized


def _message(message: Message) -> dict[str, Any]:
    content = [
        {"type": "image"} if isinstance(part, Frame) else {"type": "text", "text": part.text}
        for part in message.content
    ]
    return {"role": message.role, "content": content}
