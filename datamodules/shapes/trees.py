"""How scenes lie on disk: the folder trees of ReVOS and of MeViS."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.files import write_atomically
from datamodules.masks import RLE, encode_rle
from datamodules.shapes.expressions import Expression
from datamodules.shapes.scenes import Scene
from datamodules.shapes.thoughts import conversation_records

#: ReVOS' ``type_id`` of each group of expressions
TYPE_IDS = {"referring": 0, "reasoning": 1, "absent": 2}
_JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),  # colours end where shapes end
)


class Tree(ABC):
    """A benchmark being written: frames at once, JSON at the end.

    Args:
        root: folder of the benchmark.
        sampled_frames: most frames of a conversation.
    """

    #: whether a record holds the fields that only ReVOS has, and sentences about nothing
    typed: bool

    def __init__(self, root: Path, sampled_frames: int) -> None:
        self.root = root
        self.sampled_frames = sampled_frames
        self.metas: dict[str, dict[str, Any]] = {"train": {}, "valid": {}}
        self.masks: dict[str, dict[str, Any]] = {"train": {}, "valid": {}}
        self.foregrounds: dict[str, Any] = {}
        self.conversations: list[dict[str, Any]] = []

    @abstractmethod
    def video_name(self, split: str, index: int) -> str:
        """Return the name of a video, which may hold ``/``."""

    @abstractmethod
    def image_folders(self, split: str) -> list[Path]:
        """Return every ``JPEGImages`` folder that holds the frames of a split."""

    @abstractmethod
    def json_files(self) -> dict[Path, Any]:
        """Return the content of each JSON file, by path; the last one makes the benchmark complete."""

    def check_new(self) -> None:
        """Raise ``FileExistsError`` if the benchmark was completed before."""
        last = list(self.json_files())[-1]
        if last.exists():
            raise FileExistsError(
                f"Expected `root` to hold no benchmark, but {str(last)!r} exists; delete it or go elsewhere"
            )

    def add(self, split: str, index: int, scene: Scene, expressions: Sequence[Expression]) -> Counter[str]:
        """Write the frames of a video and keep its annotation.

        Args:
            split: ``train`` or ``valid``.
            index: number of the video in its split.
            scene: the video.
            expressions: what is said about it.

        Returns:
            How many videos, expressions of each group and conversations this adds, by ``split/name``.
        """
        said = [expression for expression in expressions if self.typed or expression.group != "absent"]
        video = self.video_name(split, index)
        names = [f"{time:05d}" for time in range(len(scene.frames))]
        for folder in self.image_folders(split):
            _write_frames(folder / video, names, scene)
        targets = sorted({n for expression in said for n in expression.targets})
        annotations = {n: sum(map(len, self.masks.values())) + k for k, n in enumerate(targets)}
        self.masks[split] |= {str(annotations[n]): _encoded(scene.masks[n]) for n in targets}
        union = np.any(scene.masks[targets], axis=0)
        ratios = [round(float(ratio), 6) for ratio in union.mean(axis=(1, 2))]
        self.foregrounds[video] = {"masks_rle": _encoded(union, keep_empty=True), "foreground_ratio": ratios}
        entry: dict[str, Any] = {"expressions": {}, "frames": names, "vid_id": sum(map(len, self.metas.values()))}
        height, width = scene.labels.shape[1:]
        self.metas[split][video] = entry | ({"height": height, "width": width} if self.typed else {})
        counts = Counter({f"{split}/videos": 1})
        for number, expression in enumerate(said):
            record = _record(expression, annotations) | ({"type_id": TYPE_IDS[expression.group]} if self.typed else {})
            entry["expressions"][str(number)] = record
            counts[f"{split}/{expression.group}"] += 1
            if split == "train" and expression.targets:
                counts[f"{split}/conversations"] += self._converse(
                    scene, expression, video, str(number), names, annotations
                )
        return counts

    def _converse(
        self,
        scene: Scene,
        expression: Expression,
        video: str,
        number: str,
        names: list[str],
        annotations: dict[int, int],
    ) -> int:
        meta = {"video": video} | _record(expression, annotations)
        meta |= {"frames": names, "exp_id": number, "category": TYPE_IDS[expression.group], "length": len(names)}
        meta |= {"frame_path": [f"JPEGImages/{video}/{name}.jpg" for name in names]}
        records = list(conversation_records(scene, expression, meta, self.sampled_frames))
        self.conversations += records
        return len(records)

    def close(self) -> None:
        """Write every JSON file, each in one move."""
        for path, content in self.json_files().items():
            write_atomically(path, json.dumps(content).encode())


class ReVOSTree(Tree):
    """One folder of frames and of masks; a meta file per split; types, foregrounds and sentences about nothing."""

    typed = True

    def video_name(self, split: str, index: int) -> str:
        """Return a nested name, as ReVOS' own are."""
        return f"shapes/{split}/{index:05d}"

    def image_folders(self, split: str) -> list[Path]:
        """Return the only folder of frames."""
        return [self.root / "JPEGImages"]

    def json_files(self) -> dict[Path, Any]:
        """Return masks, foregrounds, conversations and both metas."""
        return {
            self.root / "mask_dict.json": self.masks["train"] | self.masks["valid"],
            self.root / "mask_dict_foreground.json": self.foregrounds,
            self.root / "conversations.json": self.conversations,
            self.root / "meta_expressions_train_.json": {"videos": self.metas["train"]},
            self.root / "meta_expressions_valid_.json": {"videos": self.metas["valid"]},
        }


class MeViSTree(Tree):
    """One folder per split; ``valid`` is ``valid_u`` without masks, so that its submissions can be scored at home."""

    typed = False

    def video_name(self, split: str, index: int) -> str:
        """Return a flat name, as MeViS' own are."""
        return f"{split}{index:05d}"

    def image_folders(self, split: str) -> list[Path]:
        """Return one folder for ``train``, two for the held-out videos."""
        return [self.root / name / "JPEGImages" for name in (["train"] if split == "train" else ["valid_u", "valid"])]

    def json_files(self) -> dict[Path, Any]:
        """Return masks and metas of each split, and the conversations beside the training frames."""
        return {
            self.root / "train" / "mask_dict.json": self.masks["train"],
            self.root / "train" / "conversations.json": self.conversations,
            self.root / "train" / "meta_expressions.json": {"videos": self.metas["train"]},
            self.root / "valid_u" / "mask_dict.json": self.masks["valid"],
            self.root / "valid_u" / "meta_expressions.json": {"videos": self.metas["valid"]},
            self.root / "valid" / "meta_expressions.json": {"videos": _hidden(self.metas["valid"])},
        }


def _hidden(videos: dict[str, Any]) -> dict[str, Any]:
    """Return the metas with nothing but the words of each expression."""
    return {
        name: video | {"expressions": {key: {"exp": record["exp"]} for key, record in video["expressions"].items()}}
        for name, video in videos.items()
    }


def _record(expression: Expression, annotations: dict[int, int]) -> dict[str, Any]:
    objects = list(expression.targets)
    return {"exp": expression.text, "obj_id": objects, "anno_id": [annotations[n] for n in objects]}


def _write_frames(folder: Path, names: Sequence[str], scene: Scene) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, scene.frames, strict=True):
        path = folder / f"{name}.jpg"
        if not cv2.imwrite(str(path), frame[..., ::-1], _JPEG):
            raise OSError(f"Expected to write {str(path)!r}, but OpenCV could not; is the disk full?")


def _encoded(masks: NDArray[np.bool_], keep_empty: bool = False) -> list[RLE | None]:
    """Return one RLE per frame of ``bool (T, H, W)``, None for an empty one unless it is to be kept."""
    return [encode_rle(torch.from_numpy(mask)) if keep_empty or mask.any() else None for mask in masks]
