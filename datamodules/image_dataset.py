"""Images as videos of one frame."""

from typing import Any

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.frames import FrameReader, ImageReader, inside


class ImageDataset(VideoDataset):
    """Expressions about JPEGs in one folder. Video and frame are called as the image is."""

    def record(
        self, image: str, number: int, expression: str, group: str | None = None, annotation: Any = None
    ) -> VideoRecord:
        """Return the record of one expression about an image, the ``number``-th about it."""
        return VideoRecord(image, str(number), expression, (image,), group, annotation)

    def frames(self, record: VideoRecord) -> FrameReader:
        """Return the reader of the image.

        Raises:
            BadSampleError: if its name would leave the folder of the dataset.
        """
        return ImageReader([inside(self.images, f"{record.video_id}.jpg", record=record.key)], record.key)
