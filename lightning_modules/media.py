"""Films as the bytes of their files."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from itertools import chain
from typing import Literal

import av
from PIL import Image
from torch import Tensor

from evaluation.images import to_image

FilmFormat = Literal["gif", "mp4"]


def encode_film(pictures: Iterable[Tensor], format: FilmFormat, fps: int) -> bytes:  # noqa: A002 - as PIL names it
    """Encode a film.

    Args:
        pictures: ``uint8 (3, H, W)``, all of one size, at least one; H.264 loses the last row or column if it is odd.
        format: ``gif``, which loops, or ``mp4`` with H.264.
        fps: frames per second.

    Returns:
        The bytes of the file.
    """
    return _gif(pictures, fps) if format == "gif" else _mp4(iter(pictures), fps)


def _gif(pictures: Iterable[Tensor], fps: int) -> bytes:
    # An octree without dithering: flat colours stay flat, and what does not move costs nothing.
    images = (
        to_image(picture).quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for picture in pictures
    )
    buffer = BytesIO()
    first = next(images)
    first.save(buffer, "GIF", save_all=True, append_images=images, duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def _mp4(pictures: Iterator[Tensor], fps: int) -> bytes:
    buffer = BytesIO()
    first = next(pictures)
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = (side // 2 * 2 for side in first.shape[-2:])
        stream.pix_fmt = "yuv420p"  # what browsers play; it needs even sides
        for picture in chain([first], pictures):
            pixels = picture[:, : stream.height, : stream.width].permute(1, 2, 0).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
