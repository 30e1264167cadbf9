"""One step of SAM 2 for a batch of objects, each on a frame of its own."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import NO_OBJ_SCORE


@dataclass
class Prediction:
    """What the mask decoder says of B objects.

    Args:
        logits: of the best mask, ``(B, 1, h, w)``; the same everywhere if the object is judged absent.
        presence: logit of the object being there, ``(B, 1, 1)``.
        pointer: what the object is, in a vector, ``(B, C)``.
    """

    logits: Tensor
    presence: Tensor
    pointer: Tensor

    def first(self, count: int) -> Self:
        """Return what is said of the first ``count`` objects."""
        return type(self)(self.logits[:count], self.presence[:count], self.pointer[:count])


class MemoryBank:
    """What B objects remember, each of its own past; all of them were prompted equally many steps ago.

    Only what a later step can read is kept: the prompted frame, and the last few steps since.

    Args:
        memory: of the prompted frame, ``(L, B, D)``: L places of the coarsest features, D channels.
        pointer: from the prompted frame, ``(B, C)``.
        num_memories: of steps after the prompted one, at most.
        num_pointers: of steps after the prompted one, at most.
    """

    def __init__(self, memory: Tensor, pointer: Tensor, num_memories: int, num_pointers: int) -> None:
        self.memory = memory
        self.pointer = pointer
        self.recent_memories: deque[Tensor] = deque(maxlen=num_memories)
        self.recent_pointers: deque[Tensor] = deque(maxlen=num_pointers)
        self.steps = 1

    def keep(self, count: int) -> None:
        """Forget all but the first ``count`` objects."""
        self.memory, self.pointer = self.memory[:, :count], self.pointer[:count]
        for index, memory in enumerate(self.recent_memories):
            self.recent_memories[index] = memory[:, :count]
        for index, pointer in enumerate(self.recent_pointers):
            self.recent_pointers[index] = pointer[:count]

    def append(self, memory: Tensor, pointer: Tensor) -> None:
        """Remember the step just taken."""
        self.recent_memories.append(memory)
        self.recent_pointers.append(pointer)
        self.steps += 1


class SAM2Step:
    """Prompt encoder, memory attention, mask decoder and memory encoder, each called once for all objects of a batch.

    Computes what ``Sam2VideoModel`` of transformers does in a session for one object at a time. Its
    ``_single_frame_forward`` cannot be used: for several objects it picks the best of several masks at wrong indices.

    Args:
        model: the network.
        features: of all frames of one video, in the cache of an inference session.
        num_frames: of the video; it decides how many pointers are read and how their age is encoded.
    """

    def __init__(self, model: Sam2VideoModel, features: Any, num_frames: int) -> None:
        self.model: Any = model  # its annotations do not say which modules it has
        self.features = features
        self.num_pointers = min(num_frames, model.config.max_object_pointers_in_encoder)
        self._image_position = self.model.get_image_wide_positional_embeddings()
        self._memory_position: Tensor | None = None

    def levels(self, frames: Sequence[int]) -> list[Tensor]:
        """Return the features of B frames, finest first, ``(B, C, h, w)`` each; a frame may come repeatedly."""
        seen = [self.features.get_vision_features(frame)["vision_feats"] for frame in frames]
        sizes = self.model.backbone_feature_sizes
        return [
            torch.cat([level.permute(1, 2, 0).unflatten(2, tuple(size)) for level in levels])
            for levels, size in zip(zip(*seen, strict=True), sizes, strict=True)
        ]

    def prompt(self, levels: list[Tensor], points: Tensor, labels: Tensor) -> Prediction:
        """Segment B objects without any memory.

        Args:
            levels: features of their frames.
            points: ``float (B, P, 2)`` xy in pixels of the network's square; a box is its two corners.
            labels: ``int (B, P)``; 0 and 1 for points off and on the object, 2 and 3 for corners.
        """
        coarse = levels[-1] + self.model.no_memory_embedding.reshape(1, -1, 1, 1)
        multimask = self.model._use_multimask(True, {"point_labels": labels[:, None]})
        return self._decode([*levels[:-1], coarse], points[:, None], labels[:, None], multimask)

    def track(self, levels: list[Tensor], bank: MemoryBank) -> Prediction:
        """Segment the B objects of a bank on the frames that come next for them."""
        batch_size = len(levels[-1])
        points = levels[-1].new_zeros(batch_size, 1, 1, 2)
        labels = -torch.ones(batch_size, 1, 1, dtype=torch.int32, device=points.device)  # no point at all
        multimask = self.model._use_multimask(False, None)
        return self._decode([*levels[:-1], self._attend(levels[-1], bank)], points, labels, multimask)

    def remember(self, coarse: Tensor, prediction: Prediction, prompted: bool = False) -> Tensor:
        """Encode B predictions as memories.

        Args:
            coarse: the coarsest features of their frames.
            prediction: what was predicted there.
            prompted: whether by ``prompt``.

        Returns:
            ``(L, B, D)``.
        """
        side = self.model.image_size
        masks = functional.interpolate(prediction.logits.float(), (side, side), mode="bilinear", align_corners=False)
        memory, position = self.model._encode_new_memory(
            current_vision_feats=_sequence(coarse),
            pred_masks_high_res=masks.to(prediction.logits.dtype),
            object_score_logits=prediction.presence,
            is_mask_from_pts=prompted,
        )
        self._memory_position = position[:, :1]  # the same for all objects and frames
        encoded: Tensor = memory
        return encoded

    def bank(self, memory: Tensor, pointer: Tensor) -> MemoryBank:
        """Return what objects remember that have just been prompted."""
        return MemoryBank(memory, pointer, self.model.num_maskmem - 1, self.num_pointers - 1)

    def _attend(self, coarse: Tensor, bank: MemoryBank) -> Tensor:
        """Return the coarsest features, conditioned on what is remembered."""
        batch_size, channels = coarse.shape[:2]
        age = self.model.memory_temporal_positional_encoding  # of steps 1, 2, ... ago, then of the prompted frame
        recent = range(len(bank.recent_memories), 0, -1)
        positions = [self._memory_position + age[-1], *(self._memory_position + age[ago - 1] for ago in recent)]
        # The prompted frame's pointer comes first, then the newest, so that pointers are as old as they are far.
        newest_first = list(reversed(bank.recent_pointers))
        pointers, pointer_position = self.model._process_object_pointers(
            [bank.steps, *range(1, len(newest_first) + 1)],
            [bank.pointer, *newest_first],
            self.num_pointers,
            batch_size,
            channels,
            coarse.device,
        )
        memory = torch.cat([bank.memory, *bank.recent_memories, pointers]).to(coarse.dtype)
        conditioned = self.model.memory_attention(
            current_vision_features=_sequence(coarse),
            current_vision_position_embeddings=self.features.get_vision_features(0)["vision_pos_embeds"][-1],
            memory=memory,
            memory_posision_embeddings=torch.cat([*positions, pointer_position[:, :1]]),
            num_object_pointer_tokens=len(pointers),
        )
        image: Tensor = conditioned.squeeze(0).transpose(1, 2).reshape(coarse.shape)
        return image

    def _decode(self, levels: list[Tensor], points: Tensor, labels: Tensor, multimask: bool) -> Prediction:
        """Return the best mask of each object, by the decoder's own estimate of its quality."""
        sparse, dense = self.model.prompt_encoder(points, labels, None, None)
        masks, qualities, tokens, presence = self.model.mask_decoder(
            image_embeddings=levels[-1],
            image_positional_embeddings=self._image_position.expand(len(points), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=levels[:-1],
        )
        rows = torch.arange(len(points), device=points.device)
        best = qualities[:, 0].argmax(-1)  # of one, if one is put out
        present = (presence > 0)[:, 0]
        logits = torch.where(present[:, :, None, None], masks[rows, :, best], NO_OBJ_SCORE)
        pointer = self.model.object_pointer_proj(tokens[rows, 0, best])
        shown = present.to(pointer.dtype)
        return Prediction(logits, presence, shown * pointer + (1 - shown) * self.model.no_object_pointer)


def _sequence(image: Tensor) -> Tensor:
    """Return ``(B, C, h, w)`` as ``(L, B, C)``."""
    return image.flatten(2).permute(2, 0, 1)
