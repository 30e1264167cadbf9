"""SAM 2 of transformers behind the segmenter's contract."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    Sam2ImageProcessor,
    Sam2VideoConfig,
    Sam2VideoInferenceSession,
    Sam2VideoModel,
    Sam2VideoProcessor,
    Sam2VideoVideoProcessor,
)

from models.segmenters.base import Prompt
from models.segmenters.lock_step import LockStep, PromptedObject
from models.segmenters.sam2_step import SAM2Step
from models.segmenters.tracking import EncodedVideo, Tracked, TrackingSegmenter


class SAM2Segmenter(TrackingSegmenter):
    """Prompt SAM 2 on one frame and track every object through the video, in both directions from there.

    Frames are resized to the model's square (bilinear, antialiased) and normalised by transformers'
    ``Sam2VideoVideoProcessor``, whose numbers come with the checkpoint; box corners carry the labels 2 and 3, points 0
    and 1. Ravi et al., "SAM 2: Segment Anything in Images and Videos" (arXiv:2408.00714); weights and sessions are
    those of ``transformers.Sam2VideoModel``. What every mask owes to its box is said in ``TrackingSegmenter``.

    All objects of all prompts move in lock-step, away from their own frames in both directions at once. For T frames
    and N distinct objects (an object of several prompts is one) this costs:

    - encoder: T frames, in batches of ``encode_batch_size``, however many prompts there are;
    - steps: one for the prompted frames, then as many as the longest way to a wanted frame, at most T - 1, each a call
      of memory attention and mask decoder over the objects and directions that are still on their way: at most N T rows
      altogether. What no step would read, the memory of a track's last frame, is not encoded. More than
      ``track_batch_size`` at once, and different numbers of points per object, are further batches;
    - memory: per object and direction at once the last ``num_maskmem - 1`` memories and
      ``max_object_pointers_in_encoder`` pointers; with a released network at 1024 pixels in float32 0.5 MB a memory,
      and about 0.25 GB for keys, values and upscaled features while a step runs; logits of wanted frames, 0.25 MB each,
      until their batch is done. Features are 17 MB a frame, for all prompts.

    Logits are those of a session per prompt and direction but for the order of sums, which depends on how many objects
    run together: 1e-5 in float32 on networks in which small differences stay small. Memories are rounded to bfloat16,
    so that a difference in the last bit is at times one of 0.4 % in an element of a memory; a network that enlarges it
    from frame to frame, as wildly random weights do, shows it in its masks.

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
        lock_step: False runs sessions of transformers, a prompt and a direction after the other, over the same
            features: for comparison. Sessions are always run if ``released``, where directions depend on each other.
        track_batch_size: most objects, counted once per direction, that take a step at once.

    Raises:
        ValueError: if ``dtype`` is neither, or a batch size is not positive.
    """

    def __init__(
        self,
        pretrained: str = "facebook/sam2.1-hiera-large",
        config: dict[str, Any] | None = None,
        seed: int = 0,
        dtype: Literal["float32", "bfloat16"] = "float32",
        released: bool = False,
        encode_batch_size: int = 8,
        lock_step: bool = True,
        track_batch_size: int = 16,
    ) -> None:
        super().__init__(dtype, released, encode_batch_size)
        if track_batch_size < 1:
            raise ValueError(f"Expected `track_batch_size` to be at least 1, but got {track_batch_size}")
        self.lock_step = lock_step
        self.track_batch_size = track_batch_size
        self.pretrained = pretrained
        self.config = config
        self.seed = seed
        self._processor: Sam2VideoProcessor | None = None

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

    def encode(self, frames: Tensor) -> EncodedVideo:
        """Run the image encoder over every frame; the features are the cache of an inference session.

        Args:
            frames: ``uint8 (T, 3, H, W)`` RGB.

        Returns:
            The features of all frames, on the device of the model, for any number of propagations.
        """
        # A session is the public way to a cache; its limit counts frames, by default one.
        cache = self._empty_session(max_vision_features_cache_size=len(frames)).cache
        position: list[Tensor] = []
        for times, pixels in self._batches(frames, self.processor.video_processor):
            features = self.model.get_image_features(pixels.to(self.dtype), return_dict=True)
            # Positions are the same on all frames and only the coarsest level is read: keeping what the encoder returns
            # would take five times the memory of the features.
            position = position or [features.fpn_position_encoding[-1][:, :1].clone()]
            for offset, time in enumerate(times):
                levels = [level[:, offset : offset + 1] for level in features.fpn_hidden_states]
                cache.cache_vision_features(time, {"vision_feats": levels, "vision_pos_embeds": position})
        height, width = frames.shape[-2:]
        return EncodedVideo(cache, len(frames), (height, width))

    def track_all(
        self, video: EncodedVideo, prompts: Sequence[Prompt], segment_frames: Sequence[int]
    ) -> Iterator[Tracked]:
        """Propagate the objects of distinct prompts in lock-step, or prompt by prompt; see ``lock_step``."""
        if self.released or not self.lock_step:
            yield from super().track_all(video, prompts, segment_frames)
            return
        boxes: dict[PromptedObject, list[tuple[int, int]]] = defaultdict(list)  # one object may be in several prompts
        for index, prompt in enumerate(prompts):
            for row, each in enumerate(self._objects(video, prompt)):
                boxes[each].append((index, row))
        of = list(boxes.values())
        driver = LockStep(SAM2Step(self.model, video.features, video.num_frames), self.track_batch_size)
        for places, logits in driver(list(boxes), segment_frames):
            rows = [row for row, (each, _) in enumerate(places) for _ in of[each]]
            yield [(*box, time) for each, time in places for box in of[each]], logits[rows]

    def _objects(self, video: EncodedVideo, prompt: Prompt) -> list[PromptedObject]:
        """Return the boxes of a prompt as the network reads them, which is what a session has stored."""
        stored = self._session(video, prompt).point_inputs_per_obj.values()
        inputs = [each[prompt.frame] for each in stored]
        return [
            PromptedObject(
                prompt.frame,
                tuple(map(tuple, each["point_coords"][0, 0].tolist())),
                tuple(each["point_labels"][0, 0].tolist()),
            )
            for each in inputs
        ]

    def _build(self) -> Sam2VideoModel:
        model: Any = self._from_pretrained() if self.config is None else self._from_config(self.config)
        built: Sam2VideoModel = model.to(self.dtype)
        return built

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

    def _empty_session(self, **arguments: Any) -> Sam2VideoInferenceSession:
        """Return a session that keeps everything where the model is."""
        return Sam2VideoInferenceSession(
            inference_device=self.device, inference_state_device=self.device, dtype=self.dtype, **arguments
        )

    def _session(self, video: EncodedVideo, prompt: Prompt) -> Sam2VideoInferenceSession:
        height, width = video.size
        pixels = torch.empty(video.num_frames, 0)  # never read, because the features are there; sessions count frames
        session = self._empty_session(video=pixels, video_height=height, video_width=width)
        session.cache = video.features
        self.processor.add_inputs_to_inference_session(
            session,
            frame_idx=prompt.frame,
            obj_ids=list(range(len(prompt.boxes))),
            input_boxes=prompt.boxes[None],
            input_points=None if prompt.points is None else prompt.points[None],
            input_labels=None if prompt.labels is None else prompt.labels[None],
        )
        return session

    def _propagate(self, session: Sam2VideoInferenceSession, start: int, stop: int) -> dict[int, Tensor]:
        logits = {}
        steps = self.model.propagate_in_video_iterator(
            session, start_frame_idx=start, max_frame_num_to_track=abs(stop - start), reverse=stop < start
        )
        for step in steps:
            logits[step.frame_idx] = step.pred_masks
            for outputs in session.output_dict_per_obj.values():
                for memories in outputs.values():
                    # Read once, to encode the memory; at 4 MB per object and frame it is most of a session.
                    memories.get(step.frame_idx, {}).pop("high_res_masks", None)
        return logits
