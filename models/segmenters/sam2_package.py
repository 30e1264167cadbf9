"""SAM 2 of the original repository (PyPI's ``sam2``) behind the segmenter's contract: it opens original checkpoints."""

from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Sam2VideoVideoProcessor

from models.segmenters.base import Prompt
from models.segmenters.tracking import EncodedVideo, TrackingSegmenter

#: What ``sam2.build_sam.build_sam2_video_predictor`` adds to a configuration, but for ``fill_hole_area``: that needs
#: the package's compiled extension, and transformers fills no holes either.
_PREDICTOR = {
    "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor",
    "binarize_mask_from_pts_for_mem_enc": True,
    "sam_mask_decoder_extra_args": {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    },
}
#: the parts of an inference state that begin as empty dicts
_EMPTY = (
    "point_inputs_per_obj",
    "mask_inputs_per_obj",
    "constants",
    "obj_id_to_idx",
    "obj_idx_to_id",
    "output_dict_per_obj",
    "temp_output_dict_per_obj",
    "frames_tracked_per_obj",
)


class SAM2PackageSegmenter(TrackingSegmenter):
    """Track with the package ``sam2`` and one of its own checkpoints; otherwise like ``SAM2Segmenter``.

    Frames and prompts are prepared as there, so that on the same weights the masks are those of transformers: frames
    are tensors, resized bilinearly with antialiasing, where the package's ``init_state`` reads a folder of JPEGs and
    resizes bicubically. Small holes are not filled.

    The package is an extra: ``make sam2`` installs it. Ravi et al., "SAM 2: Segment Anything in Images and Videos"
    (arXiv:2408.00714).

    Args:
        checkpoint: file of the original repository, such as ``sam2.1_hiera_large.pt``.
        config: the package's configuration of the network that the weights belong to, such as
            ``configs/sam2.1/sam2.1_hiera_l.yaml``; or what such a file has under ``model``, for weights of another
            network. By default the one that was released with a checkpoint of this file name.
        dtype: what autocast computes in, as the package means it to be used; the weights stay ``float32``.
        released: both directions in one session, and every box as it is; see ``SAM2Segmenter``.
        encode_batch_size: most frames that go through the image encoder at once.

    Raises:
        ImportError: if the package is not installed.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if no configuration is known by the name, ``dtype`` is neither, or ``encode_batch_size`` is not
            positive.
    """

    def __init__(
        self,
        checkpoint: str,
        config: str | dict[str, Any] | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        released: bool = False,
        encode_batch_size: int = 8,
    ) -> None:
        super().__init__(dtype, released, encode_batch_size)
        if find_spec("sam2") is None:
            raise ImportError("Expected the package `sam2` of PyPI, but it is not installed; install it: make sam2")
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(
                f"Expected `checkpoint` to be a file such as sam2.1_hiera_large.pt, but got {checkpoint}"
            )
        self.checkpoint = checkpoint
        self.config = config if isinstance(config, dict) else _released_config(checkpoint, config)

    def encode(self, frames: Tensor) -> EncodedVideo:
        """Run the image encoder over every frame; the features are what an inference state has cached.

        Args:
            frames: ``uint8 (T, 3, H, W)`` RGB.

        Returns:
            The features of all frames, on the device of the network, for any number of propagations.
        """
        side = self.model.image_size
        cached = {}
        positions: list[Tensor] = []
        for times, pixels in self._batches(frames, Sam2VideoVideoProcessor(size={"height": side, "width": side})):
            encoded = self.model.forward_image(pixels)
            positions = positions or [level[:1].clone() for level in encoded["vision_pos_enc"]]  # alike on all frames
            for offset, time in enumerate(times):
                levels = [level[offset : offset + 1] for level in encoded["backbone_fpn"]]
                # The pixels come first, and are never read once their features are there.
                cached[time] = (pixels.new_empty(1, 0, 0, 0), {"backbone_fpn": levels, "vision_pos_enc": positions})
        height, width = frames.shape[-2:]
        return EncodedVideo(cached, len(frames), (height, width))

    def _build(self) -> Any:
        # Imported here, because it is an extra.
        from hydra.utils import instantiate
        from omegaconf import OmegaConf
        from sam2 import sam2_video_predictor

        # The package draws a bar per propagation, of which a group of answers has many.
        sam2_video_predictor.tqdm = partial(sam2_video_predictor.tqdm, disable=True)
        given = self.config
        settings = given if isinstance(given, dict) else OmegaConf.load(str(files("sam2") / given)).model
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
            network = instantiate(OmegaConf.merge(settings, _PREDICTOR))
        network.load_state_dict(self._weights(network.state_dict()))
        return network

    def _weights(self, expected: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict of the checkpoint, of the names and shapes that are expected."""
        saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if not isinstance(saved, dict) or not isinstance(saved.get("model"), dict):
            got = f"a dict of {sorted(map(str, saved))[:3]}" if isinstance(saved, dict) else type(saved).__name__
            raise ValueError(
                f"Expected {self.checkpoint} to be a dict with the state dict under 'model', as the original "
                f"repository saves it, but got {got}"
            )
        shapes, wanted = ({name: tuple(w.shape) for name, w in one.items()} for one in (saved["model"], expected))
        names = sorted(shapes.keys() | wanted.keys())
        if wrong := [name for name in names if shapes.get(name) != wanted.get(name)]:
            network = self.config if isinstance(self.config, str) else "the given `config`"
            raise ValueError(
                f"Expected {self.checkpoint} to hold the weights of {network}, but {len(wrong)} of {len(names)} "
                f"differ, such as {wrong[0]!r}: expected shape {wanted.get(wrong[0])}, got {shapes.get(wrong[0])}"
            )
        return dict(saved["model"])

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _session(self, video: EncodedVideo, prompt: Prompt) -> dict[str, Any]:
        """Return what ``init_state`` does, but for the frames, with the prompt added."""
        # Logits come resized to the size of the video; if that is their own, they come as they are.
        low = self.model.image_size // 4
        state: dict[str, Any] = {name: {} for name in _EMPTY} | {
            "num_frames": video.num_frames,
            "video_height": low,
            "video_width": low,
            "device": self.device,
            "storage_device": self.device,
            "cached_features": video.features,
            "obj_ids": [],
        }
        height, width = video.size
        sides = torch.tensor([width, height], dtype=torch.float32)
        for index, box in enumerate(prompt.boxes):
            points, labels = (None if part is None else part[index] for part in (prompt.points, prompt.labels))
            self.model.add_new_points_or_box(
                state,
                prompt.frame,
                index,
                points=None if points is None else points / sides,
                labels=None if labels is None else labels.int(),
                normalize_coords=False,  # by the sides above, not by the state's
                box=box.reshape(2, 2) / sides,
            )
        return state

    def _propagate(self, session: dict[str, Any], start: int, stop: int) -> dict[int, Tensor]:
        steps = self.model.propagate_in_video(session, start, abs(stop - start), reverse=stop < start)
        return {time: logits for time, _, logits in steps}


def _released_config(checkpoint: str, config: str | None) -> str:
    """Return the name of a configuration inside the package."""
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES as RELEASES

    known: dict[str, str] = {name: of for of, name in RELEASES.values()}
    chosen = known.get(Path(checkpoint).name) if config is None else config
    if chosen is None or chosen not in known.values():
        raise ValueError(
            f"Expected `config` to be one of {sorted(known.values())}, or `checkpoint` to have the name of a released "
            f"file, one of {sorted(known)}, but got {config!r} and {Path(checkpoint).name!r}"
        )
    return chosen
