"""Frames on disk: folders of pictures, and video files."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.errors import UNREADABLE, BadSampleError


def inside(root: Path, *names: str, record: str) -> Path:
    """Join names that come from a dataset file to a path, if they cannot leave ``root``.

    Args:
        root: folder.
        names: relative names; may contain ``/``.
        record: name of the record, for messages.

    Raises:
        BadSampleError: if a name is empty or absolute, or contains ``..`` or NUL.
    """
    for name in names:
        if not isinstance(name, str) or not name or "\0" in name or name.startswith("/") or ".." in Path(name).parts:
            raise BadSampleError(
                f"{record!r}: expected a relative name without `..` below `{root}`, but got {name!r}", "unsafe name"
            )
    return root.joinpath(*(PurePosixPath(name) for name in names))


class FrameReader(ABC):
    """Reads the frames of one video: a picklable function from a time to ``uint8 (3, H, W)`` RGB."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width of the video in pixels, from a header: nothing is decoded."""

    @abstractmethod
    def __call__(self, time: int) -> Tensor:
        """Return the frame at a time, ``uint8 (3, H, W)`` RGB.

        Raises:
            BadSampleError: if it cannot be read, or has another size than the video.
        """


class ImageReader(FrameReader):
    """Frames from one picture each; the first one's size is the video's.

    Args:
        paths: the picture at each time.
        record: name of the record, for messages.
    """

    def __init__(self, paths: Sequence[Path], record: str) -> None:
        self._paths = paths
        self._record = record

    def __len__(self) -> int:
        return len(self._paths)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width in the header of the first picture."""
        if not self._paths:
            raise BadSampleError(
                f"{self._record!r}: expected at least one frame, but got an empty video", "empty video"
            )
        with self._open(self._paths[0]) as image:
            return image.height, image.width

    def __call__(self, time: int) -> Tensor:
        """Return the frame at a time, ``uint8 (3, H, W)`` RGB.

        Raises:
            BadSampleError: if it cannot be read, or has another size than the video.
        """
        path = self._paths[time]
        with self._open(path) as image:
            if (image.height, image.width) != self.size:
                raise BadSampleError(
                    f"{self._record!r}: expected every frame to be {self.size[0]} x {self.size[1]} (height x width) "
                    f"like the first, but got {image.height} x {image.width} in `{path}`",
                    "frame size",
                )
            try:
                pixels = np.array(image.convert("RGB"))
            except UNREADABLE as error:
                raise self._unreadable(path, error) from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def _open(self, path: Path) -> Image.Image:
        try:
            return Image.open(path)
        except FileNotFoundError as error:
            raise BadSampleError(
                f"{self._record!r}: expected a frame `{path}`, but there is no such file", "missing frame"
            ) from error
        except UNREADABLE as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: Path, error: Exception) -> BadSampleError:
        return BadSampleError(
            f"{self._record!r}: expected a readable picture in `{path}`, but got: {error}", "unreadable frame"
        )


class VideoReader(FrameReader):
    """Frames of a video file, decoded in order.

    Reading in ascending order decodes every frame once; stepping back starts again at the first frame, because seeking
    is not exact in every container. Long videos that are read at random are better unpacked to pictures.

    Args:
        path: anything ffmpeg reads.
        record: name of the record, for messages.
    """

    def __init__(self, path: Path, record: str) -> None:
        self._path = path
        self._record = record
        self._frames: Iterator[Tensor] | None = None
        self._next = 0

    def __getstate__(self) -> dict[str, Any]:
        # an open container cannot cross to another process
        return self.__dict__ | {"_frames": None, "_next": 0}

    @cached_property
    def _length(self) -> int:
        with self._open() as container:
            try:
                return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
            except av.FFmpegError as error:
                raise self._unreadable(f"{error}") from error

    def __len__(self) -> int:
        return self._length

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame; it is decoded, because a file may ask to be shown rotated."""
        height, width = self(0).shape[-2:]
        return int(height), int(width)

    def __call__(self, time: int) -> Tensor:
        """Return the frame at a time, ``uint8 (3, H, W)`` RGB, upright.

        Raises:
            BadSampleError: if it cannot be decoded.
        """
        if self._frames is None or time < self._next:
            self._frames, self._next = self._decode(), 0
        for frame in self._frames:
            self._next += 1
            if self._next > time:
                return frame
        raise self._unreadable(f"it ends after {self._next} frames, before time {time}")

    def _decode(self) -> Iterator[Tensor]:
        with self._open() as container:
            try:
                # threads of a decoder do not survive a fork: a worker that collects it would wait for them for ever
                stream = container.streams.video[0]
                stream.thread_type, stream.codec_context.thread_count = "NONE", 1
                for frame in container.decode(stream):
                    # `rotation` counts counter-clockwise degrees, as rot90 does
                    pixels = np.rot90(frame.to_ndarray(format="rgb24", threads=1), k=frame.rotation // 90)
                    yield torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()
            except av.FFmpegError as error:
                raise self._unreadable(f"{error}") from error

    def _open(self) -> "av.container.InputContainer":
        try:
            container = av.open(str(self._path))
        except FileNotFoundError as error:
            raise BadSampleError(
                f"{self._record!r}: expected a video `{self._path}`, but there is no such file", "missing frame"
            ) from error
        except (OSError, ValueError, av.FFmpegError) as error:
            raise self._unreadable(f"{error}") from error
        if not container.streams.video:
            container.close()
            raise self._unreadable("no video stream")
        return container

    def _unreadable(self, got: str) -> BadSampleError:
        return BadSampleError(
            f"{self._record!r}: expected a readable video in `{self._path}`, but got: {got}", "unreadable frame"
        )
