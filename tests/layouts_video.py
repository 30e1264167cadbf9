"""The trees of benchmarks of videos, each in its true layout, about the objects of `two_squares`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.builders import edit_json, rle_track, two_squares, write_frames, write_json, write_mevis

#: what is said about each object where an expression has one
ABOUT = ("The mover.", "who arrives late?")


def write_palette(path: Path, indices: Tensor) -> None:
    """Write ``uint8 (H, W)`` as a palette PNG with the first colours of DAVIS; all 256 have one, or 255 is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices.numpy().astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + 253 * [128, 128, 128])
    picture.save(path)


def label_pictures(masks: Tensor) -> Tensor:
    """Return the index of the object at each pixel, ``uint8 (T, H, W)``; they do not overlap."""
    return (masks * torch.arange(1, len(masks) + 1)[:, None, None, None]).sum(dim=0).to(torch.uint8)


def _video(expressions: Any, t: int) -> dict[str, Any]:
    # against the order on disk, because sorting is the reader's business
    return {"expressions": expressions, "frames": [f"{time:05d}" for time in reversed(range(t))]}


def write_ref_youtube_vos(root: Path, t: int = 6, size: int = 32) -> Path:
    """Write a Ref-YouTube-VOS tree: videos a, b of train; c, d of valid, whose JSON holds e of test too."""
    masks = two_squares(t, size)
    sentences = [(ABOUT[0], "1"), (ABOUT[1], "2"), ("the white square", "1")]
    splits = {"train": ("a", "b"), "valid": ("c", "d"), "test": ("e",)}
    for split, videos in splits.items():
        hidden = split != "train"
        said = {
            str(n): {"exp": text} | ({} if hidden else {"obj_id": label}) for n, (text, label) in enumerate(sentences)
        }
        named = videos + splits["test"] if split == "valid" else videos
        write_json(
            root / "meta_expressions" / split / "meta_expressions.json",
            {"videos": {video: _video(said, t) for video in named}},
        )
        for video in videos:
            write_frames(root / split / "JPEGImages" / video, masks)
            for time, indices in enumerate([] if hidden else label_pictures(masks)):
                write_palette(root / split / "Annotations" / video / f"{time:05d}.png", indices)
    return root


def write_ref_davis(root: Path, videos: Sequence[str] = ("dogs-jump", "blackswan"), t: int = 6, size: int = 32) -> Path:
    """Write a Ref-DAVIS17 tree: four expressions about each object, rows 0 and 1 void, and the tracks as a JSON."""
    masks = two_squares(t, size)
    labels = label_pictures(masks)
    labels[:, :2] = 255
    said = {str(n): {"exp": ABOUT[n // 4], "obj_id": str(n // 4 + 1)} for n in range(8)}
    for split in ("train", "valid"):
        for video in videos:
            write_frames(root / split / "JPEGImages" / video, masks)
            for time, indices in enumerate(labels):
                write_palette(root / split / "Annotations" / video / f"{time:05d}.png", indices)
        meta = {"videos": {video: _video(said, t) for video in videos}}
        write_json(root / "meta_expressions" / split / "meta_expressions.json", meta)
        order = [(video, number) for video in sorted(videos) for number in sorted(said)]
        tracks = {str(n): rle_track(masks[int(number) // 4]) for n, (_, number) in enumerate(order)}
        write_json(root / split / "mask_dict.json", tracks)
    return root


def write_reason_vos(root: Path, t: int = 6, size: int = 32) -> Path:
    """Write a ReasonVOS tree: in each video, one object has a PNG for every frame and one for frames 1, 3 and 5."""
    masks = two_squares(t, size)
    videos = {}
    for video, source in (("00a", "MOSE"), ("b_1", "VIPSeg")):
        write_frames(root / "JPEGImages" / video, masks)
        for number in range(2):
            for time in range(number, t, number + 1):
                picture = root / "Annotations" / f"{source}_{video}_{number + 7}" / f"{time:05d}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(255 * masks[number, time].numpy().astype(np.uint8)).save(picture)
        targets = [(7, ABOUT[0], 0), (8, ABOUT[1], 1), (7, "Which square moves?", 1)]
        said = [
            {"obj_id": target, "exp_id": number, "exp_text": text, "is_sent": is_sent}
            for number, (target, text, is_sent) in enumerate(targets)
        ]
        videos[video] = _video(said, t) | {"source": source}
    write_json(root / "meta_expressions.json", {"videos": videos})
    return root


def write_long_rvos(root: Path, videos: Sequence[str] = ("a", "b"), t: int = 6, size: int = 32) -> Path:
    """Write a Long-RVOS tree; an object has a PNG where it is visible only, and the test has none."""
    masks = two_squares(t, size)
    sentences = [(ABOUT[0], 0, "dynamic"), (ABOUT[1], 1, "static+dynamic"), ("a square", 0, "static")]
    for split in ("train", "valid", "test"):
        said = {str(n): {"exp": text, "obj_id": each, "type": kind} for n, (text, each, kind) in enumerate(sentences)}
        write_json(root / split / "meta_expressions.json", {"videos": {video: _video(said, t) for video in videos}})
        for video in videos:
            write_frames(root / split / "JPEGImages" / video, masks)
            for number, time in [] if split == "test" else masks.any(dim=(2, 3)).nonzero().tolist():
                picture = root / split / "Annotations" / video / str(number) / f"{time:05d}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(255 * masks[number, time].numpy().astype(np.uint8)).save(picture)
    return root


def write_ref_sav(root: Path, videos: Sequence[str] = ("sav_000001", "sav_000002"), t: int = 6, size: int = 32) -> Path:
    """Write a Ref-SAV tree."""
    masks = two_squares(t, size)
    tracks, meta = {}, {}
    for place, video in enumerate(videos):
        write_frames(root / "videos" / video, masks)
        tracks |= {str(2 * place + each): rle_track(masks[each]) for each in range(2)}
        sentences = [(ABOUT[0], [0], 0), (ABOUT[1], [1], 1), ("both squares", [0, 1], 0)]
        said = {
            str(n): {"exp": text, "obj_id": each, "anno_id": [2 * place + one for one in each], "type_id": kind}
            for n, (text, each, kind) in enumerate(sentences)
        }
        meta[video] = _video(said, t) | {"height": size, "width": size}
    write_json(root / "mask_dict.json", tracks)
    write_json(root / "meta_expressions_valid.json", {"videos": meta})
    return root


def write_mevis_v2(root: Path) -> Path:
    """Write a MeViS tree with files of the second version; where masks are shown, an expression has no target."""
    write_mevis(root)
    for split, name in (("train", "v2"), ("valid_u", "v2"), ("valid", "v2_release")):
        meta = (root / split / "meta_expressions.json").rename(root / split / f"meta_expressions_{name}.json")
        if split != "valid":
            edit_json(meta, _add_absent)
    return root


def _add_absent(content: dict[str, Any]) -> None:
    for video in content["videos"].values():
        video["expressions"]["3"] = {"exp": "the one that flies", "obj_id": [], "anno_id": []}
