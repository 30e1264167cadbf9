"""Predictions for Ref-DAVIS17 as one picture per annotator and frame."""

from collections.abc import Sequence

from datamodules.dataset import VideoRecord
from datamodules.ref_davis import ANNOTATORS, RefDAVIS17
from evaluation.predictions.files import join
from evaluation.predictions.tree import PictureTree

_FOLDERS = tuple(f"anno_{number}" for number in range(ANNOTATORS))


class AnnotatorTree(PictureTree):
    """``anno_k/<video>/<frame>.png`` as ReferFormer writes it: palette indices are the objects that annotator k names.

    Expression e of a video is said by annotator ``e % 4`` about object ``e // 4 + 1``; see `RefDAVIS17.place`. What
    several expressions claim belongs to one of them, because a pixel has one index.

    Args:
        files: what holds them.
        base: the folder of ``anno_0`` to ``anno_3`` in it.
    """

    layout = "anno_<k>/<video>/<frame>.png"

    def fits(self, records: Sequence[VideoRecord]) -> bool:
        """Return whether anything is there for at least one of the videos."""
        if not any(self.files.has_folder(join(self.base, name)) for name in _FOLDERS):
            return False
        return all(record.expression_id.isdecimal() for record in records) and super().fits(records)

    def has_video(self, record: VideoRecord) -> bool:
        """Return whether anything is there for the video of an expression, of any annotator."""
        return any(self.files.has_folder(self.below(record, name, record.video_id)) for name in _FOLDERS)

    def folder(self, record: VideoRecord) -> str:
        """Return the folder of an expression's pictures."""
        annotator, _ = RefDAVIS17.place(record)
        return self.below(record, _FOLDERS[annotator], record.video_id)

    def label(self, record: VideoRecord) -> int:
        """Return the index of an expression's object."""
        _, label = RefDAVIS17.place(record)
        return label
