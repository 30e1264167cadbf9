"""Prompt one frame, track from there in both directions: the part of SAM 2 that no implementation of it changes."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Sam2VideoVideoProcessor

from models.segmenters.base import Prompt, Segmenter
from models.segmenters.still import covered_pixels


@dataclass
class EncodedVideo:
    """What the image encoder says about every frame of one video, shared by all sessions on it.

    Args:
        features: of all frames, in the form in which the network's sessions look them up.
        num_frames: number of frames T.
        size: height and width of the frames in pixels.
    """

    features: Any
    num_frames: int
    size: tuple[int, int]


#: prompt, box and time of every row, and their mask logits at the network's own resolution, ``(B, 1, h, w)``
Tracked = tuple[list[tuple[int, int, int]], Tensor]


class TrackingSegmenter(Segmenter):
    """Encode a video once, and propagate all distinct prompts over the same features.

    A mask is the set of pixels whose logit is above 0 after bilinear resizing to the frame. Boxes are clipped to the
    frame. A box that covers no pixel of it (degenerate, inverted, outside, or not finite) gives an empty plane and
    costs nothing. Prompts that are identical inside the frame run once. How prompts are propagated is said in
    ``track_all``: unless a subclass knows better, in a session each.

    Args:
        dtype: of everything computed.
        released: both directions run in one session, so that frames before the prompt also attend to the memories of
            frames after it, and every box is prompted as it is. By default each direction has a session of its own and
            reads only memories from its own side.
        encode_batch_size: most frames that go through the image encoder at once.

    Raises:
        ValueError: if ``dtype`` is neither, or ``encode_batch_size`` is not positive.
    """

    def __init__(self, dtype: Literal["float32", "bfloat16"], released: bool, encode_batch_size: int) -> None:
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"Expected `dtype` to be 'float32' or 'bfloat16', but got {dtype!r}")
        if encode_batch_size < 1:
            raise ValueError(f"Expected `encode_batch_size` to be at least 1, but got {encode_batch_size}")
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        self.released = released
        self.encode_batch_size = encode_batch_size
        self.device = torch.device("cpu")
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The frozen network, built when it is first asked for."""
        if self._model is None:
            self._model = self._build().requires_grad_(False).eval().to(self.device)
        return self._model

    def to(self, device: torch.device | str) -> Self:
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
            segment_frames: time indices whose masks are wanted, K of them, in any order. They change no mask, but
                for the order of sums: only tracking that none of them needs is skipped.

        Returns:
            Per prompt, ``bool (M, K, H, W)`` on the CPU, one plane per box, in the order of the boxes.

        Raises:
            TypeError: if ``frames`` are not ``uint8``.
            ValueError: if a shape or a time index is not what it is expected to be, a point is not finite, or the
                network's weights are not those of the network.
        """
        _check_video(frames, segment_frames)
        for index, prompt in enumerate(prompts):
            _check_prompt(prompt, index, len(frames))
        height, width = frames.shape[-2:]
        prepared = [self._prepare(prompt, height, width) for prompt in prompts]
        keys = [_identity(prompt) for prompt, _ in prepared]
        distinct = {key: prompt for key, (prompt, _) in zip(keys, prepared, strict=True) if len(prompt.boxes)}
        planes = {
            key: torch.zeros(len(prompt.boxes), len(segment_frames), height, width, dtype=torch.bool)
            for key, (prompt, _) in zip(keys, prepared, strict=True)
        }
        if distinct and segment_frames:
            with torch.no_grad(), self._precision():
                self._fill([planes[key] for key in distinct], frames, list(distinct.values()), segment_frames)
        return [_among(planes[key], usable) for key, (_, usable) in zip(keys, prepared, strict=True)]

    @abstractmethod
    def encode(self, frames: Tensor) -> EncodedVideo:
        """Run the image encoder over every frame.

        Args:
            frames: ``uint8 (T, 3, H, W)`` RGB.

        Returns:
            The features of all frames, on the device of the network, for any number of propagations.
        """

    def track(self, video: EncodedVideo, prompt: Prompt, segment_frames: Sequence[int]) -> dict[int, Tensor]:
        """Propagate one prompt from its frame to the wanted frames on either side.

        Args:
            video: the encoded frames.
            prompt: on the CPU, with at least one box; every box is prompted as it is.
            segment_frames: time indices that are wanted.

        Returns:
            Mask logits at the network's own resolution, ``(M, 1, h, w)`` on its device, for every frame that was
            visited: the wanted ones and at least those between them and the prompt.
        """
        ahead = [time for time in segment_frames if time >= prompt.frame]
        behind = [time for time in segment_frames if time < prompt.frame]
        session = self._session(video, prompt)
        logits: dict[int, Tensor] = {}
        if self.released and behind:
            ahead = [video.num_frames - 1]  # the way back reads memories of frames that nobody asked for
        if ahead:
            logits |= self._propagate(session, prompt.frame, max(ahead))
        if behind:
            session = session if self.released else self._session(video, prompt)
            logits |= self._propagate(session, prompt.frame, min(behind))
        return logits

    def track_all(
        self, video: EncodedVideo, prompts: Sequence[Prompt], segment_frames: Sequence[int]
    ) -> Iterator[Tracked]:
        """Propagate distinct prompts, here one after the other.

        Args:
            video: the encoded frames.
            prompts: on the CPU, each with at least one box; every box is prompted as it is.
            segment_frames: time indices that are wanted.

        Returns:
            Every box of every prompt at every wanted time, in any order and in batches of any size.
        """
        for index, prompt in enumerate(prompts):
            logits = self.track(video, prompt, segment_frames)
            for time in sorted(set(segment_frames)):
                yield [(index, row, time) for row in range(len(prompt.boxes))], logits[time]

    @abstractmethod
    def _build(self) -> Any:
        """Return the network with its weights, on the CPU."""

    @abstractmethod
    def _session(self, video: EncodedVideo, prompt: Prompt) -> Any:
        """Return a fresh session on the encoded video with the prompt added."""

    @abstractmethod
    def _propagate(self, session: Any, start: int, stop: int) -> dict[int, Tensor]:
        """Track from ``start`` to ``stop``, both included, and return the logits by frame."""

    def _fill(
        self, planes: list[Tensor], frames: Tensor, prompts: Sequence[Prompt], segment_frames: Sequence[int]
    ) -> None:
        """Write the masks of prompts, ``bool (M, K, H, W)`` each."""
        columns = {time: [k for k, wanted in enumerate(segment_frames) if wanted == time] for time in segment_frames}
        video = self.encode(frames)
        for places, logits in self.track_all(video, prompts, segment_frames):
            for (index, row, time), mask in zip(places, self._resized(logits, video.size), strict=True):
                planes[index][row, columns[time]] = mask

    def _precision(self) -> torch.autocast:
        # A mixed-precision trainer calls this inside its autocast; the precision of a frozen judge is its own.
        return torch.autocast(self.device.type, enabled=False)

    def _batches(self, frames: Tensor, processor: Sam2VideoVideoProcessor) -> Iterator[tuple[range, Tensor]]:
        """Yield times and pixels as the network wants them, ``float (B, 3, S, S)`` on its device."""
        for start in range(0, len(frames), self.encode_batch_size):
            chunk = frames[start : start + self.encode_batch_size]
            prepared = processor(videos=chunk, device=self.device, return_tensors="pt")
            yield range(start, start + len(chunk)), prepared.pixel_values_videos[0].to(self.device)

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

    def _resized(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the masks of one frame, ``bool (M, H, W)`` on the CPU."""
        return (functional.interpolate(logits.float(), size, mode="bilinear")[:, 0] > 0).cpu()


def _among(planes: Tensor, usable: Tensor) -> Tensor:
    """Return the planes of all boxes, from those of the usable ones."""
    if usable.all():
        return planes
    masks = planes.new_zeros(len(usable), *planes.shape[1:])
    masks[usable] = planes
    return masks


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
