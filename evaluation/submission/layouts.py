"""Which pictures a benchmark's server or tool reads, and what they hold."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.frames import inside
from datamodules.ref_davis import RefDAVIS17
from evaluation.images import encode_gray_mask, encode_labels

#: expressions of one video whose masks share pictures
Unit = tuple[VideoRecord, ...]


class SubmissionLayout(ABC):
    """How masks are laid out in an archive."""

    #: names of the dataset classes whose server takes it
    datasets: ClassVar[tuple[str, ...]] = ()
    #: the layout, in words
    words: ClassVar[str]
    #: Pillow's mode of the pictures
    mode: ClassVar[str]

    @abstractmethod
    def units(self, records: Iterable[VideoRecord]) -> list[Unit]:
        """Return which expressions share pictures."""

    @abstractmethod
    def names(self, unit: Unit) -> list[str]:
        """Return the name of the picture of each frame.

        Raises:
            BadSampleError: if a name of the dataset would leave the archive.
        """

    @abstractmethod
    def encode(self, unit: Unit, masks: Sequence[Tensor]) -> bytes:
        """Return the picture of one frame.

        Args:
            unit: the expressions.
            masks: of each of them, ``bool (H, W)``.
        """


class GrayMasks(SubmissionLayout):
    """A gray picture per expression and frame, 0 and 255: MeViS' server, and the tools of most benchmarks.

    https://github.com/henghuiding/MeViS, CodaLab Evaluation Submission Guideline.
    """

    words = "<video>/<expression>/<frame>.png, gray, 0 and 255"
    mode = "L"
    folder: ClassVar[str] = ""

    def units(self, records: Iterable[VideoRecord]) -> list[Unit]:
        """Return each expression for itself."""
        return [(record,) for record in records]

    def names(self, unit: Unit) -> list[str]:
        """Return the name of the picture of each frame."""
        (record,) = unit
        folder = Path(self.folder)
        return [
            inside(folder, record.video_id, record.expression_id, f"{name}.png", record=record.key).as_posix()
            for name in record.frame_names
        ]

    def encode(self, unit: Unit, masks: Sequence[Tensor]) -> bytes:
        """Return the picture of one frame."""
        (mask,) = masks
        return encode_gray_mask(mask)


class RefYouTubeVOSMasks(GrayMasks):
    """The same below a folder: Ref-YouTube-VOS' server.

    https://github.com/wjn922/ReferFormer, docs/Ref-Youtube-VOS.md.
    """

    datasets = ("RefYouTubeVOS",)
    words = "Annotations/<video>/<expression>/<frame>.png, gray, 0 and 255"
    folder = "Annotations"


class RefDAVISLabels(SubmissionLayout):
    """A palette picture per annotator and frame for davis2017-evaluation, as ReferFormer writes it.

    The index is the object that the annotator speaks about. ReferFormer takes the argmax of probabilities; of masks,
    which all claim their pixels with the same certainty, that is the first object.

    https://github.com/wjn922/ReferFormer, inference_davis.py.
    """

    datasets = ("RefDAVIS17",)
    words = "anno_<annotator>/<video>/<frame number>.png, palette of DAVIS, index of the object"
    mode = "P"

    def units(self, records: Iterable[VideoRecord]) -> list[Unit]:
        """Return the expressions of each annotator about each video, by object."""
        units: dict[tuple[str, int], list[VideoRecord]] = {}
        for record in records:
            annotator, _ = RefDAVIS17.place(record)
            units.setdefault((record.video_id, annotator), []).append(record)
        return [tuple(sorted(unit, key=lambda record: RefDAVIS17.place(record)[1])) for unit in units.values()]

    def names(self, unit: Unit) -> list[str]:
        """Return the name of the picture of each frame; frames are numbered from 0."""
        annotator, _ = RefDAVIS17.place(unit[0])
        folder = inside(Path(f"anno_{annotator}"), unit[0].video_id, record=unit[0].key).as_posix()
        return [f"{folder}/{number:05d}.png" for number in range(len(unit[0].frame_names))]

    def encode(self, unit: Unit, masks: Sequence[Tensor]) -> bytes:
        """Return the picture of one frame."""
        labels = torch.zeros(masks[0].shape, dtype=torch.uint8)
        for record, mask in reversed([*zip(unit, masks, strict=True)]):
            labels[mask] = RefDAVIS17.place(record)[1]
        return encode_labels(labels)


#: layouts of their own; every other dataset has that of `GrayMasks`
LAYOUTS: tuple[SubmissionLayout, ...] = (RefYouTubeVOSMasks(), RefDAVISLabels())


def layout_of(dataset: VideoDataset) -> SubmissionLayout:
    """Return the layout that a dataset's server takes.

    Raises:
        ValueError: if it takes no pictures.
    """
    kinds = {kind.__name__ for kind in type(dataset).__mro__}
    if "ViCaS" in kinds:
        raise ValueError("Expected a benchmark of pictures, but ViCaS takes a JSON per video; submit those")
    return next((layout for layout in LAYOUTS if kinds & set(layout.datasets)), GrayMasks())
