"""Chains of thought to imitate: records of Veason-R1's cold start, with the frames they talk about."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.canvas import from_canvas
from datamodules.dataset import VideoDataset, VideoRecord, read_json
from datamodules.errors import BadSampleError
from datamodules.frames import FrameReader
from datamodules.masks import MaskReader, UnionReader
from datamodules.sampling import spaced_through
from datamodules.structures import VideoSample, tight_boxes


@dataclass
class Conversation:
    """What the reasoner should say about a sample, in canonical units.

    Args:
        expression: the sentence it is asked about.
        thinking: the chain of thought, without its tags.
        keyframe: time index into the frames of the sample.
        boxes: ``float64 (M, 4)`` xyxy of the visible targets in the keyframe, in pixels, half-open.
    """

    expression: str
    thinking: str
    keyframe: int
    boxes: Tensor


@dataclass(frozen=True)
class _Entry:
    """A record of the file, and the expression it is about (None if the dataset has none of that name)."""

    number: int
    value: dict[str, Any]
    base: VideoRecord | None


class ConversationDataset(VideoDataset):
    r"""Frames of another dataset's videos with every conversation about them in ``meta["conversations"]``.

    The file is a JSON list of records in the form Veason-R1 released; these keys are read::

        {"video": "OVIS/train/00e92ab4", "exp_id": "0", "frame_ids": [1, 9, 17],
         "CoT": "<think>...</think>",
         "solution": "<answer>{\"keyframe_timestamp\": 9, \"bbox_2d_list\": [[x1, y1, x2, y2]]}</answer>"}

    ``frame_ids`` and ``keyframe_timestamp`` are positions in the sorted frame list, boxes are on the canvas. Records
    about the same frames of a video are one sample, so that a reasoner looks at these frames once for all of them. Its
    expression and masks are those of the first.

    Args:
        dataset: where videos, expressions and masks come from; it must hold every expression the file
            names, and those it filters out are left out.
        conversations: the file, relative to the root of ``dataset``.
        canvas: side of the canvas the boxes are on.
        num_frames: most frames of a sample, spaced through the keyframe; 1 is the keyframe alone, None all.
        boxes: ``record`` takes the record's boxes, without the ``[0, 0, 0, 0]`` that stand for absent objects;
            ``masks`` takes the tight boxes of the masks, one per visible object. In records of the released script, the
            n-th box of an expression with several targets covers the first n of them.
        on_bad_sample: what to do with a sample that cannot be used.

    Reference:
        Veason-R1 (CVPR 2026), ``seed_cot_generation.py`` of SitongGong/Veason-R1.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        conversations: str = "conversations.json",
        canvas: float = 560,
        num_frames: int | None = None,
        boxes: Literal["record", "masks"] = "record",
        on_bad_sample: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__(dataset.root, dataset.split, on_bad_sample=on_bad_sample)
        if num_frames is not None and num_frames < 1:
            raise ValueError(f"Expected `num_frames` to be None or at least 1, but got {num_frames}")
        if boxes not in ("record", "masks"):
            raise ValueError(f"Expected `boxes` to be 'record' or 'masks', but got {boxes!r}")
        self.dataset = dataset
        self.conversations = dataset.root / conversations
        self.canvas = canvas
        self.num_frames = num_frames
        self.boxes = boxes

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return [self.conversations]

    def records(self) -> Iterator[VideoRecord]:
        """Return one record for each set of frames that is talked about, in the order of the file.

        Raises:
            ValueError: if the file does not hold a list.
        """
        values = read_json(self.conversations)
        if not isinstance(values, list):
            raise ValueError(f"Expected `{self.conversations}` to hold a list, but got a {type(values).__name__}")
        known = {(record.video_id, record.expression_id): record for record in self.dataset.records()}
        kept = {record.key for record in self.dataset.index}
        together: dict[Any, list[_Entry]] = {}
        for number, value in enumerate(values):
            value = value if isinstance(value, dict) else {}
            base = known.get((str(value.get("video")), str(value.get("exp_id"))))
            if base is not None and base.key not in kept:  # a group that was not asked for
                continue
            entry = _Entry(number, value, base)
            together.setdefault(self._frames_of(entry), []).append(entry)
        for entries in together.values():
            base = entries[0].base
            value = entries[0].value
            names, expression, group = (base.frame_names, base.expression, base.group) if base else ((), "", None)
            yield VideoRecord(
                str(value.get("video")), str(value.get("exp_id")), expression, names, group, tuple(entries)
            )

    def frames(self, record: VideoRecord) -> FrameReader:
        """Return the reader of all frames of the video."""
        return self.dataset.frames(self._base(record.annotation[0]))

    def masks(self, record: VideoRecord) -> MaskReader | None:
        """Return the reader of all frames' masks, or None where they are hidden."""
        return self.dataset.masks(self._base(record.annotation[0]))

    def foreground(self, record: VideoRecord) -> UnionReader | None:
        """Return the reader of the union of every annotated object of the video, or None if it is unknown."""
        return self.dataset.foreground(self._base(record.annotation[0]))

    def times(self, record: VideoRecord, masks: MaskReader | None, generator: np.random.Generator) -> list[int]:
        """Return the record's frames, or those of them around its keyframe.

        Raises:
            BadSampleError: if the record is malformed.
        """
        frame_ids, keyframe, _ = self._parse(record.annotation[0])
        return self._kept(frame_ids, keyframe)

    def meta(self, record: VideoRecord) -> dict[str, Any]:
        """Return ``VideoSample.meta`` of the sample of ``dataset``."""
        return self.dataset.meta(self._base(record.annotation[0]))

    def draw(self, index: int, epoch: int) -> VideoSample:
        """Return the sample that ``index`` is, the same in every epoch, with its conversations.

        Raises:
            BadSampleError: if it cannot be used.
        """
        sample = super().draw(index, epoch)
        entries = self.index[index].annotation
        sample.meta["conversations"] = [self._conversation(entry, sample) for entry in entries]
        return sample

    def _conversation(self, entry: _Entry, sample: VideoSample) -> Conversation:
        _, keyframe, on_canvas = self._parse(entry)
        base = self._base(entry)
        if self.boxes == "record":
            boxes = from_canvas(on_canvas[on_canvas.any(dim=1)], self.dataset.frames(base).size, self.canvas)
        else:
            masks = self.dataset.masks(base)
            if masks is None:
                raise self._malformed(entry, "to be about an expression with masks, but they are hidden")
            boxes = tight_boxes(masks(keyframe)).double()
        thinking = entry.value["CoT"].strip().removeprefix("<think>").removesuffix("</think>").strip()
        return Conversation(base.expression, thinking, sample.frame_ids.index(keyframe), boxes)

    def _frames_of(self, entry: _Entry) -> Any:
        """Return what records about the same frames have in common; a malformed one has nothing in common."""
        try:
            frame_ids, keyframe, _ = self._parse(entry)
        except BadSampleError:  # raised again, or counted, when the sample is drawn
            return entry.number
        return self._base(entry).video_id, tuple(self._kept(frame_ids, keyframe))

    def _kept(self, frame_ids: list[int], keyframe: int) -> list[int]:
        if self.num_frames is None:
            return frame_ids
        kept = spaced_through(frame_ids.index(keyframe), len(frame_ids), self.num_frames)
        return [frame_ids[ordinal] for ordinal in kept]

    def _base(self, entry: _Entry) -> VideoRecord:
        if entry.base is None:
            raise self._malformed(
                entry,
                f"to name an expression of {type(self.dataset).__name__} {self.split!r}, "
                f"but got {str(entry.value)[:120]}",
            )
        return entry.base

    def _parse(self, entry: _Entry) -> tuple[list[int], int, Tensor]:
        """Return the frame ids, the keyframe as one of them, and the boxes on the canvas, ``float64 (M, 4)``."""
        length = len(self._base(entry).frame_names)
        match entry.value:
            case {"frame_ids": [_, *_] as frame_ids, "CoT": str(), "solution": str(solution)}:
                pass
            case _:
                raise self._malformed(
                    entry, f"to have `frame_ids`, `CoT` and `solution`, but got the keys {list(entry.value)}"
                )
        if not all(isinstance(frame, int) and 0 <= frame < length for frame in frame_ids):
            raise self._malformed(entry, f"to have `frame_ids` in [0, {length}), but got {frame_ids}")
        text = solution.strip().removeprefix("<answer>").removesuffix("</answer>")
        try:
            answer = json.loads(text)
            keyframe = answer["keyframe_timestamp"]
            boxes = torch.tensor(answer["bbox_2d_list"], dtype=torch.float64).reshape(-1, 4)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise self._malformed(
                entry, f"to have a JSON `solution` with `keyframe_timestamp` and `bbox_2d_list`, but got {solution!r}"
            ) from error
        if keyframe not in frame_ids or not boxes.isfinite().all():
            raise self._malformed(
                entry, f"to choose one of the frames {frame_ids} and finite boxes, but got {solution!r}"
            )
        return frame_ids, keyframe, boxes

    def _malformed(self, entry: _Entry, expected: str) -> BadSampleError:
        name = f"{entry.value.get('video')}/{entry.value.get('exp_id')}"
        where = f"record {entry.number} ({name!r}) of `{self.conversations}`"
        return BadSampleError(f"Expected {where} {expected}", "malformed record")
