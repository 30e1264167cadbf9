"""Pictures, masks and films as the bytes of their files."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from itertools import chain
from typing import Literal

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

FilmFormat = Literal["gif", "mp4"]


def davis_palette() -> NDArray[np.uint8]:
    """Return the palette of DAVIS and PASCAL VOC masks, ``uint8 (256, 3)``.

    The bits of an index, from the lowest, are dealt in turn to red, green and blue, highest bit first: 1 is
    (128, 0, 0), 2 is (0, 128, 0).
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= (((index >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


def encode_png(picture: Tensor) -> bytes:
    """Return a picture, ``uint8 (3, H, W)``, as PNG."""
    return _png(_image(picture))


def encode_mask(mask: Tensor) -> bytes:
    """Return a mask, ``bool (H, W)``, as palette PNG: index 0 is background, 1 the object."""
    image = Image.fromarray(mask.to(torch.uint8).numpy())
    image.putpalette(davis_palette().tobytes())
    return _png(image)


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
        _image(picture).quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for picture in pictures
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


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
