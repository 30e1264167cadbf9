"""Pictures and masks as files, read back by Pillow."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image

from evaluation.images import davis_palette, encode_gray_mask, encode_jpeg, encode_labels, encode_mask, encode_png


def opened(data):
    return Image.open(BytesIO(data))


def test_davis_palette():
    palette = davis_palette()
    assert palette[[0, 1, 2, 3, 4, 8, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [64, 0, 0],
        [224, 224, 192],
    ]
    assert len(encode_mask(torch.zeros(480, 854, dtype=torch.bool))) < 3000


def test_masks_come_back():
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[1:3, 2:6] = True
    for data, mode, value in ((encode_mask(mask), "P", 1), (encode_gray_mask(mask), "L", 255)):
        image = opened(data)
        assert (image.format, image.mode, image.size) == ("PNG", mode, (7, 5))
        assert np.array_equal(np.array(image), mask.numpy() * value)
    labels = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    assert np.array_equal(np.array(opened(encode_labels(labels))), labels.numpy())
    assert opened(encode_labels(labels)).getpalette()[:6] == [0, 0, 0, 128, 0, 0]


def test_pictures_come_back():
    picture = torch.zeros(3, 16, 24, dtype=torch.uint8)
    picture[0, :, 12:] = 255
    assert np.array_equal(np.array(opened(encode_png(picture))), picture.permute(1, 2, 0).numpy())
    jpeg = np.array(opened(encode_jpeg(picture))).astype(int)
    # without chroma subsampling, red ends where it ends
    assert np.abs(jpeg - picture.permute(1, 2, 0).numpy()).max() < 12
