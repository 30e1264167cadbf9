"""Tiny true data: samples in memory, and the trees of each dataset on disk."""

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.masks import encode_rle
from datamodules.structures import LazyStack, VideoSample


def moving_square(t: int = 6, size: int = 32, side: int = 8, step: int = 2, top: int = 4) -> Tensor:
    """Return the masks of a square that moves right from the left edge, ``bool (1, T, H, W)``.

    Its box at time t is ``[step * t, top, step * t + side, top + side]``, half-open; its area is ``side ** 2``.
    """
    masks = torch.zeros(1, t, size, size, dtype=torch.bool)
    for time in range(t):
        masks[0, time, top : top + side, step * time : step * time + side] = True
    return masks


def video_sample(
    masks: Tensor | None = None,
    expression: str = "The square.",
    frame_ids: Sequence[int] | None = None,
    frames: Tensor | None = None,
    **fields: Any,
) -> VideoSample:
    """Return a sample in memory.

    Args:
        masks: ``bool (N, T, H, W)``; default a moving square.
        expression: the sentence.
        frame_ids: positions in the video; default ``0 .. T-1``.
        frames: ``uint8 (T, 3, H, W)``; default dark and flat with white objects.
        fields: other fields of `VideoSample`.
    """
    masks = moving_square() if masks is None else masks
    union = masks.any(dim=0)
    if frames is None:
        frames = (40 + 200 * union.to(torch.uint8)).unsqueeze(1).expand(-1, 3, -1, -1).contiguous()
    return VideoSample(
        **{
            "video_id": "video",
            "expression_id": "0",
            "foreground": LazyStack.of(union),
            "meta": {"frame_names": [f"{time:05d}" for time in range(len(union))], "dataset": "builders"},
        }
        | fields,
        expression=expression,
        frame_ids=list(range(len(union))) if frame_ids is None else list(frame_ids),
        frames=LazyStack.of(frames),
        masks=LazyStack.of(masks, dim=1),
    )


def rle_track(masks: Tensor) -> list[dict[str, Any] | None]:
    """Return one RLE per frame of ``bool (T, H, W)``, None where the object is absent."""
    return [encode_rle(mask) if mask.any() else None for mask in masks]


def write_frames(folder: Path, masks: Tensor, names: Sequence[str] | None = None) -> list[str]:
    """Write the frames of `video_sample` for ``bool (N, T, H, W)`` as JPEGs; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{time:05d}" for time in range(masks.shape[1])] if names is None else list(names)
    for name, mask in zip(sorted(names), masks.any(dim=0), strict=True):
        Image.fromarray(40 + 200 * mask.numpy().astype(np.uint8)).convert("RGB").save(folder / f"{name}.jpg")
    return names


def two_squares(t: int = 6, size: int = 32) -> Tensor:
    """Return two objects, ``bool (2, T, H, W)``: one moves right, one is there in the last half only."""
    masks = torch.cat([moving_square(t, size, side=8), torch.zeros(1, t, size, size, dtype=torch.bool)])
    masks[1, t // 2 :, 20:30, 2:14] = True
    return masks


#: what the trees below say about each video: sentence, numbers of its objects, ReVOS' ``type_id``
EXPRESSIONS = (("The mover.", [0], 0), ("who arrives late?", [1], 1), ("both squares", [0, 1], 0), ("a cat", [], 2))


def _meta(videos: Sequence[str], t: int, typed: bool, hidden: bool = False) -> dict[str, Any]:
    def expression(number: int, text: str, objects: list[int], kind: int) -> dict[str, Any]:
        said: dict[str, Any] = {"exp": text}
        if not hidden:
            said |= {"obj_id": objects, "anno_id": [10 * number + each for each in objects]}
        return said | ({"type_id": kind} if typed else {})

    said = EXPRESSIONS if typed else EXPRESSIONS[:3]
    return {
        "videos": {
            video: {
                "vid_id": number,
                # against the order on disk, because sorting is the reader's business
                "frames": [f"{time:05d}" for time in reversed(range(t))],
                "expressions": {str(each): expression(number, *said[each]) for each in range(len(said))},
            }
            for number, video in enumerate(videos)
        }
    }


def write_revos(root: Path, videos: Sequence[str] = ("toy/a", "toy/b"), t: int = 6, size: int = 32) -> Path:
    """Write a ReVOS tree; both splits hold the same videos of `two_squares`, annotated as 10 * video + object."""
    masks = two_squares(t, size)
    for video in videos:
        write_frames(root / "JPEGImages" / video, masks)
    tracks = {str(10 * number + each): rle_track(masks[each]) for number in range(len(videos)) for each in range(2)}
    union = [encode_rle(mask) for mask in masks.any(dim=0)]
    write_json(root / "mask_dict.json", tracks)
    write_json(root / "mask_dict_foreground.json", {video: {"masks_rle": union} for video in videos})
    for split in ("train", "valid"):
        write_json(root / f"meta_expressions_{split}_.json", _meta(videos, t, typed=True))
    return root


def write_mevis(root: Path, videos: Sequence[str] = ("a", "b"), t: int = 6, size: int = 32) -> Path:
    """Write a MeViS tree with the splits train and valid_u, and valid without masks."""
    masks = two_squares(t, size)
    for split in ("train", "valid_u", "valid"):
        for video in videos:
            write_frames(root / split / "JPEGImages" / video, masks)
        hidden = split == "valid"
        write_json(root / split / "meta_expressions.json", _meta(videos, t, typed=False, hidden=hidden))
        if not hidden:
            tracks = {str(10 * n + each): rle_track(masks[each]) for n in range(len(videos)) for each in range(2)}
            write_json(root / split / "mask_dict.json", tracks)
    return root


def write_own_videos(root: Path, t: int = 6, size: int = 32) -> Path:
    """Write two own videos of `two_squares`: a folder with RLE and PNG masks, and an MP4 with RLE masks."""
    masks = two_squares(t, size)
    write_frames(root / "clips" / "folder", masks)
    write_mp4(root / "clips" / "film.mp4", masks)
    labels = root / "masks" / "folder"
    labels.mkdir(parents=True)
    for time in range(t // 2, t):
        picture = Image.fromarray(2 * masks[1, time].numpy().astype(np.uint8)).convert("P")
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        picture.save(labels / f"{time:05d}.png")
    sentences = [{"exp": "The mover.", "objects": ["mover"], "group": "referring"}]
    sentences += [{"exp": "both squares", "objects": ["mover", "late"]}, {"exp": "whatever moves"}]
    tracks = {"mover": rle_track(masks[0]), "late": rle_track(masks[1])}
    videos = {
        "folder": {"frames": "clips/folder", "objects": tracks | {"late": {"folder": "masks/folder", "label": 2}}},
        "film": {"frames": "clips/film.mp4", "objects": tracks},
    }
    write_json(
        root / "videos.json", {"videos": {key: video | {"expressions": sentences} for key, video in videos.items()}}
    )
    return root


def write_mp4(path: Path, masks: Tensor) -> None:
    """Write the frames of `video_sample` for ``bool (N, T, H, W)`` as an MP4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=6)
        stream.height, stream.width = masks.shape[-2:]
        stream.pix_fmt = "yuv420p"
        for mask in masks.any(dim=0):
            gray = 40 + 200 * mask.numpy().astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.stack([gray] * 3, axis=-1), format="rgb24")))
        container.mux(stream.encode())


def write_conversations(
    root: Path, video: str = "toy/a", canvas: float = 560, name: str = "conversations.json"
) -> Path:
    """Write one conversation in Veason-R1's form about expression 0 of a video of `write_revos`."""
    answer = {"keyframe_timestamp": 3, "bbox_2d_list": [[6 * canvas / 32 + 0.5, 4 * canvas / 32 + 0.5]]}
    answer["bbox_2d_list"] = [
        [*answer["bbox_2d_list"][0], 13 * canvas / 32 + 0.5, 11 * canvas / 32 + 0.5],
        [0, 0, 0, 0],
    ]
    record = {
        "video": video,
        "exp": "The mover.",
        "exp_id": "0",
        "frame_ids": [1, 3, 5],
        "CoT": "<think>It moves.</think>",
        "solution": f"<answer>{json.dumps(answer)}</answer>",
    }
    write_json(root / name, [record])
    return root / name


def write_json(path: Path, content: Any) -> None:
    """Write JSON, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write_json(path, content)


def trip_pillow(png: bytes) -> bytes:
    """Return a PNG with a profile that is cut short behind its pixels, over which Pillow trips with an IndexError."""
    name, content = b"iCCP", b"a\0"
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    end = png.index(b"IEND") - 4
    return png[:end] + chunk + png[end:]
