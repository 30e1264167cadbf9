"""Tracking with transformers' SAM 2: a video is encoded once, and every prompt is propagated over the same features.

Ravi et al., "SAM 2: Segment Anything in Images and Videos" (arXiv:2408.00714); the sessions are those of
``transformers.Sam2VideoModel``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Sam2VideoInferenceSession, Sam2VideoModel, Sam2VideoProcessor

from models.segmenters.base import Prompt


@dataclass
class EncodedVideo:
    """What the image encoder says about every frame of one video, shared by all inference sessions on it.

    Args:
        cache: the feature cache of a transformers inference session, filled for all frames.
        num_frames: number of frames T.
        size: height and width of the frames in pixels.
    """

    cache: Any
    num_frames: int
    size: tuple[int, int]


def encode(model: Sam2VideoModel, processor: Sam2VideoProcessor, frames: Tensor, batch_size: int) -> EncodedVideo:
    """Run the image encoder over every frame.

    Args:
        model: on the device and in the precision to work with.
        processor: resizes and normalises the frames.
        frames: ``uint8 (T, 3, H, W)`` RGB.
        batch_size: most frames at once.

    Returns:
        The features of all frames, on the device of the model, for any number of propagations.
    """
    # A session is the public way to a cache; its limit counts frames, by default one.
    cache = _session(model, max_vision_features_cache_size=len(frames)).cache
    position: list[Tensor] = []
    for start in range(0, len(frames), batch_size):
        chunk = frames[start : start + batch_size]
        prepared = processor.video_processor(videos=chunk, device=model.device, return_tensors="pt")
        pixels = prepared.pixel_values_videos[0].to(model.device, model.dtype)
        features = model.get_image_features(pixels, return_dict=True)
        # Positions are the same on all frames and only the coarsest level is read: keeping what the encoder returns
        # would take five times the memory of the features.
        position = position or [features.fpn_position_encoding[-1][:, :1].clone()]
        for offset in range(len(chunk)):
            levels = [level[:, offset : offset + 1] for level in features.fpn_hidden_states]
            cache.cache_vision_features(start + offset, {"vision_feats": levels, "vision_pos_embeds": position})
    height, width = frames.shape[-2:]
    return EncodedVideo(cache, len(frames), (height, width))


def track(
    model: Sam2VideoModel,
    processor: Sam2VideoProcessor,
    video: EncodedVideo,
    prompt: Prompt,
    segment_frames: Sequence[int],
    released: bool = False,
) -> dict[int, Tensor]:
    """Propagate one prompt from its frame to the wanted frames on either side.

    Args:
        model: the one that encoded the video.
        processor: scales the prompt to the model's square.
        video: the encoded frames.
        prompt: on the CPU, with at least one box; every box is prompted as it is.
        segment_frames: time indices that are wanted.
        released: run the way back in the session of the whole way forth, instead of one of its own.

    Returns:
        Mask logits at the model's own resolution, ``(M, 1, h, w)`` on its device, for every frame that was visited: the
        wanted ones and at least those between them and the prompt.
    """
    ahead = [time for time in segment_frames if time >= prompt.frame]
    behind = [time for time in segment_frames if time < prompt.frame]
    session = _prompted_session(model, processor, video, prompt)
    logits: dict[int, Tensor] = {}
    if released and behind:
        ahead = [video.num_frames - 1]  # the way back reads memories of frames that nobody asked for
    if ahead:
        logits |= _propagate(model, session, prompt.frame, max(ahead))
    if behind:
        session = session if released else _prompted_session(model, processor, video, prompt)
        logits |= _propagate(model, session, prompt.frame, min(behind))
    return logits


def _session(model: Sam2VideoModel, **arguments: Any) -> Sam2VideoInferenceSession:
    """Return a session that keeps everything where the model is."""
    return Sam2VideoInferenceSession(
        inference_device=model.device, inference_state_device=model.device, dtype=model.dtype, **arguments
    )


def _prompted_session(
    model: Sam2VideoModel, processor: Sam2VideoProcessor, video: EncodedVideo, prompt: Prompt
) -> Sam2VideoInferenceSession:
    """Return a fresh session on the encoded video with the prompt added."""
    height, width = video.size
    pixels = torch.empty(video.num_frames, 0)  # never read, because the features are there; sessions count the frames
    session = _session(model, video=pixels, video_height=height, video_width=width)
    session.cache = video.cache
    processor.add_inputs_to_inference_session(
        session,
        frame_idx=prompt.frame,
        obj_ids=list(range(len(prompt.boxes))),
        input_boxes=prompt.boxes[None],
        input_points=None if prompt.points is None else prompt.points[None],
        input_labels=None if prompt.labels is None else prompt.labels[None],
    )
    return session


def _propagate(model: Sam2VideoModel, session: Sam2VideoInferenceSession, start: int, stop: int) -> dict[int, Tensor]:
    """Track from ``start`` to ``stop``, both included, and return the logits by frame."""
    logits = {}
    steps = model.propagate_in_video_iterator(
        session, start_frame_idx=start, max_frame_num_to_track=abs(stop - start), reverse=stop < start
    )
    for step in steps:
        logits[step.frame_idx] = step.pred_masks
        for outputs in session.output_dict_per_obj.values():
            for memories in outputs.values():
                # Read once, to encode the memory; at 4 MB per object and frame it is most of a session.
                memories.get(step.frame_idx, {}).pop("high_res_masks", None)
    return logits
