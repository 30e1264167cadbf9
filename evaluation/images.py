"""Pictures and masks as the bytes of their files.

Masks are compressed as runs, which takes half the time that zlib otherwise takes, and fewer bytes.
"""

from io import BytesIO
from zlib import Z_RLE

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


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


def to_image(picture: Tensor) -> Image.Image:
    """Return a picture, ``uint8 (3, H, W)``, as Pillow's."""
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


def encode_png(picture: Tensor) -> bytes:
    """Return a picture, ``uint8 (3, H, W)``, as PNG."""
    return _bytes(to_image(picture), "PNG")


def encode_jpeg(picture: Tensor, quality: int = 85) -> bytes:
    """Return a picture, ``uint8 (3, H, W)``, as JPEG with colours as sharp as its greys."""
    return _bytes(to_image(picture), "JPEG", quality=quality, subsampling=0, optimize=True)


def encode_labels(labels: Tensor) -> bytes:
    """Return the number of the object at each pixel, ``uint8 (H, W)``, as palette PNG: 0 is background."""
    image = Image.fromarray(labels.numpy())
    image.putpalette(davis_palette().tobytes())
    return _bytes(image, "PNG", compress_type=Z_RLE)


def encode_mask(mask: Tensor) -> bytes:
    """Return a mask, ``bool (H, W)``, as palette PNG: index 0 is background, 1 the object."""
    return encode_labels(mask.to(torch.uint8))


def encode_gray_mask(mask: Tensor) -> bytes:
    """Return a mask, ``bool (H, W)``, as gray PNG: 0 is background, 255 the object."""
    return _bytes(Image.fromarray(mask.to(torch.uint8).numpy() * np.uint8(255)), "PNG", compress_type=Z_RLE)


def _bytes(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
