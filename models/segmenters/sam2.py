"""SAM 2 behind the segmenter's contract: one encoding per video, one propagation per distinct prompt and direction."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    Sam2ImageProcessor,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VideoProcessor,
    Sam2VideoVideoProcessor,
)

from models.segmenters.base import Prompt, Segmenter
from models.segmenters.sam2_propagation import EncodedVideo, encode, track
from models.segmenters.still import covered_pixels


class SAM2Segmenter(Segmenter):
    """Prompt SAM 2 on one frame and track every object through the video, in both directions from there.

    A mask is the set of pixels whose logit is above 0 after bilinear resizing to the frame, as transformers'
    ``Sam2VideoProcessor.post_process_masks`` has it. Frames are resized to the model's square (bilinear, antialiased)
    and normalised by transformers' ``Sam2VideoVideoProcessor``, whose numbers come with the checkpoint; box corners
    carry the labels 2 and 3, points 0 and 1. Ravi et al., "SAM 2: Segment Anything in Images and Videos"
    (arXiv:2408.00714); weights and sessions are those of ``transformers.Sam2VideoModel``.

    Boxes are clipped to the frame. A box that covers no pixel of it (degenerate, inverted, outside, or not finite)
    gives an empty plane and costs nothing. Identical prompts run once and share one tensor of masks.

    Args:
        pretrained: name on the hub, or folder written by ``save_pretrained``. Veason-R1 evaluates with the default;
            its reward ran the 2.0 release, ``facebook/sam2-hiera-large``.
        config: arguments of ``transformers.Sam2VideoConfig`` for a model with random weights, instead of
            ``pretrained``: for tests of the wiring, its masks mean nothing.
        seed: of the random weights; unused with ``pretrained``.
        dtype: of the weights and of everything computed from them.
        released: do as the published reward of Veason-R1 did (``get_sam2_video_predict`` in ``fsdp_workers.py`` of
            SitongGong/Veason-R1): both directions run in one session, so that frames before the prompt also attend to
            the memories of frames after it, and every box is prompted as it is. By default each direction has a
            session of its own and reads only memories from its own side.
        encode_batch_size: most frames that go through the image encoder at once.

    Raises:
        ValueError: if ``dtype`` is neither, or ``encode_batch_size`` is not positive.
    """

    def __init__(
        self,
        pretrained: str = "facebook/sam2.1-hiera-large",
        config: dict[str, Any] | None = None,
        seed: int = 0,
        dtype: Literal["float32", "bfloat16"] = "float32",
        released: bool = False,
        encode_batch_size: int = 8,
    ) -> None:
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"Expected `dtype` to be 'float32' or 'bfloat16', but got {dtype!r}")
        if encode_batch_size < 1:
            raise ValueError(f"Expected `encode_batch_size` to be at least 1, but got {encode_batch_size}")
        self.pretrained = pretrained
        self.config = config
        self.seed = seed
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        self.released = released
        self.encode_batch_size = encode_batch_size
        self.device = torch.device("cpu")
        self._model: Any = None  # transformers decorates `to` in a way that hides its arguments from type checkers
        self._processor: Sam2VideoProcessor | None = None

    @property
    def model(self) -> Sam2VideoModel:
        """The frozen network, built when it is first asked for."""
        if self._model is None:
            model = self._from_pretrained() if self.config is None else self._from_config(self.config)
            self._model = model.requires_grad_(False).eval()
            self._model.to(device=self.device, dtype=self.dtype)
        network: Sam2VideoModel = self._model
        return network

    @property
    def processor(self) -> Sam2VideoProcessor:
        """The preparation of frames and prompts that belongs to the network."""
        if self._processor is None:
            if self.config is None:
                self._processor = Sam2VideoProcessor.from_pretrained(self.pretrained)
            else:
                side: Any = self.model.prompt_encoder.input_image_size
                size = {"height": side, "width": side}
                self._processor = Sam2VideoProcessor(
                    image_processor=Sam2ImageProcessor(size=size), video_processor=Sam2VideoVideoProcessor(size=size)
                )
        return self._processor

    def to(self, device: torch.device | str) -> "SAM2Segmenter":
        """Move the network, or remember where to build it."""
        self.device = torch.device(device)
        if self._model is not None:
            self._model.to(self.device)
        return self

    def __call__(self, frames: Tensor, prompts: Sequence[Prompt], segment_frames: Sequence[int]) -> list[Tensor]:
        """Segment one video for each prompt.

        Args:
            frames: ``uint8 (T, 3, H, W)`` RGB.
            prompts: one per answer; boxes and points in pixels of the frames.
            segment_frames: time indices whose masks are wanted, K of them, in any order. They change no mask: only
                tracking that none of them needs is skipped.

        Returns:
            Per prompt, ``bool (M, K, H, W)`` on the CPU, one plane per box, in the order of the boxes.

        Raises:
            TypeError: if ``frames`` are not ``uint8``.
            ValueError: if a shape or a time index is not what it is expected to be, a point is not finite, or the
                checkpoint lacks weights.
        """
        _check_video(frames, segment_frames)
        for index, prompt in enumerate(prompts):
            _check_prompt(prompt, index, len(frames))
        height, width = frames.shape[-2:]
        keys = [_identity(prompt) for prompt in prompts]
        distinct = {key: self._prepare(prompt, height, width) for key, prompt in zip(keys, prompts, strict=True)}
        masks = {
            key: torch.zeros(len(usable), len(segment_frames), height, width, dtype=torch.bool)
            for key, (_, usable) in distinct.items()
        }
        if asked := [key for key, plane in masks.items() if plane.numel() and distinct[key][1].any()]:
            # A mixed-precision trainer calls this inside its autocast; the precision of a frozen judge is its own.
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                video = encode(self.model, self.processor, frames, self.encode_batch_size)
                for key in asked:
                    prompt, usable = distinct[key]
                    masks[key][usable] = self._segment(video, prompt, segment_frames)
        return [masks[key] for key in keys]

    def _from_pretrained(self) -> Sam2VideoModel:
        loaded: Any = Sam2VideoModel.from_pretrained(self.pretrained, dtype=self.dtype, output_loading_info=True)
        model: Sam2VideoModel = loaded[0]
        if missing := sorted(loaded[1]["missing_keys"]):
            # transformers only logs this, and would track with random weights
            raise ValueError(
                f"Expected `pretrained={self.pretrained!r}` to be a `Sam2VideoModel` of transformers, but "
                f"{len(missing)} of its weights are missing, such as {missing[0]!r}"
            )
        return model

    def _from_config(self, config: dict[str, Any]) -> Sam2VideoModel:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return Sam2VideoModel(Sam2VideoConfig(**deepcopy(config)))

    def _prepare(self, prompt: Prompt, height: int, width: int) -> tuple[Prompt, Tensor]:
        """Return the prompt of the objects to run, on the CPU, and which boxes they are, ``bool (M,)``."""
        boxes = prompt.boxes.cpu().float()
        usable = torch.ones(len(boxes), dtype=torch.bool)
        if not self.released:
            covered = [covered_pixels(box, (height, width)) for box in boxes.tolist()]
            usable = torch.tensor([x1 < x2 and y1 < y2 for x1, y1, x2, y2 in covered], dtype=torch.bool)
            boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        if prompt.points is None or prompt.labels is None or prompt.labels.shape[1] == 0:
            return Prompt(prompt.frame, boxes[usable]), usable
        points, labels = prompt.points.cpu()[usable].float(), prompt.labels.cpu()[usable]
        return Prompt(prompt.frame, boxes[usable], points, labels), usable

    def _segment(self, video: EncodedVideo, prompt: Prompt, segment_frames: Sequence[int]) -> Tensor:
        """Return the masks of one prompt, ``bool (M, K, H, W)`` on the CPU."""
        logits = track(self.model, self.processor, video, prompt, segment_frames, self.released)
        planes = [
            self.processor.post_process_masks([logits[time].float()], [video.size])[0][:, 0].cpu()
            for time in segment_frames
        ]
        return torch.stack(planes, dim=1)


def _check_video(frames: Tensor, segment_frames: Sequence[int]) -> None:
    if frames.dtype != torch.uint8:
        raise TypeError(f"Expected `frames` to be uint8, but got {frames.dtype}")
    if frames.dim() != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise ValueError(f"Expected `frames` to be (T, 3, H, W) and not empty, but got {tuple(frames.shape)}")
    outside = [time for time in segment_frames if not 0 <= time < len(frames)]
    if outside:
        raise ValueError(f"Expected `segment_frames` to lie in [0, {len(frames)}), but got {outside}")


def _check_prompt(prompt: Prompt, index: int, num_frames: int) -> None:
    where = f"of `prompts[{index}]`"
    if not 0 <= prompt.frame < num_frames:
        raise ValueError(f"Expected `frame` {where} to lie in [0, {num_frames}), but got {prompt.frame}")
    if prompt.boxes.dim() != 2 or prompt.boxes.shape[1] != 4:
        raise ValueError(f"Expected `boxes` {where} to be (M, 4), but got {tuple(prompt.boxes.shape)}")
    if (prompt.points is None) != (prompt.labels is None):
        raise ValueError(f"Expected `points` and `labels` {where} to be given together, but got only one of them")
    if prompt.points is not None and prompt.labels is not None:
        expected = (len(prompt.boxes), prompt.labels.shape[-1], 2)
        if prompt.points.shape != expected or prompt.labels.shape != expected[:2]:
            got = f"{tuple(prompt.points.shape)} and {tuple(prompt.labels.shape)}"
            raise ValueError(f"Expected `points` {where} to be (M, P, 2) and `labels` (M, P), but got {got}")
        if not prompt.points.isfinite().all():
            raise ValueError(f"Expected `points` {where} to be finite, but got {prompt.points.tolist()}")


def _identity(prompt: Prompt) -> tuple[object, ...]:
    parts = (prompt.boxes, prompt.points, prompt.labels)
    return prompt.frame, *(None if part is None else tuple(part.flatten().tolist()) for part in parts)
