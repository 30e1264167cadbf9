"""Predictions on disk, in every layout and encoding."""

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datamodules.dataset import VideoRecord
from datamodules.masks import encode_rle
from tests.builders import EXPRESSIONS, two_squares, write_json

#: how a mask may be stored -> the values of background and object, and the mode of the picture
ENCODINGS = {
    "0/1": (1, "L"),
    "0/255": (255, "L"),
    "0/38": (38, "L"),
    "palette": (3, "P"),
    "1 bit": (True, "1"),
    "RGB": ((128, 0, 0), "RGB"),
    "RGBA": ((0, 9, 0, 255), "RGBA"),
    "gray and alpha": ((7, 255), "LA"),
    "0/1 in 16 bits": (1, "I;16"),
}


def png(mask, encoding="0/255"):
    """Return a mask, ``bool (H, W)``, as PNG."""
    value, mode = ENCODINGS[encoding]
    background = (0, 0, 0, 255) if mode == "RGBA" else (0, 255) if mode == "LA" else 0
    pixels = np.where(mask.numpy()[..., None], value, background)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    if mode == "1":
        image = Image.fromarray(pixels.astype(bool))
    else:
        image = Image.fromarray(pixels.astype(np.uint16 if mode == "I;16" else np.uint8), None if mode != "P" else "L")
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert image.mode == mode
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def expected(objects, t=6, size=32):
    """Return what `answers` predict for some of the objects: one pixel too far right, ``bool (T, H, W)``."""
    masks = two_squares(t, size)[objects].any(dim=0) if objects else torch.zeros(t, size, size, dtype=torch.bool)
    return masks.roll(1, dims=2)


def answers(videos=("toy/a", "toy/b"), typed=True):
    """Return masks for every expression of the trees in `tests.builders`, by video and expression."""
    said = EXPRESSIONS if typed else EXPRESSIONS[:3]
    return {(video, str(number)): expected(each[1]) for video in videos for number, each in enumerate(said)}


def write_tree(root: Path, masks, encoding="0/255", names=None):
    """Write ``<video>/<expression>/<frame>.png``; the frames of a video are numbered where ``names`` does not say."""
    for (video, expression), frames in masks.items():
        folder = root / video / expression
        folder.mkdir(parents=True)
        for time, mask in enumerate(frames):
            name = names[video][time] if names else f"{time:05d}"
            (folder / f"{name}.png").write_bytes(png(mask, encoding))
    return root


def write_zip(path: Path, folder: Path):
    """Write what is in a folder as ZIP."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


def write_results(path: Path, masks, **fields):
    """Write ``results.json``."""
    content = {}
    for (video, expression), frames in masks.items():
        rles = [encode_rle(mask) for mask in frames]
        content.setdefault(video, {})[expression] = {"prediction_masks": rles} | fields
    write_json(path, content)
    return path


def record(video="toy/a", expression="0", t=6, **fields):
    """Return an expression about one of the videos of `answers`."""
    return VideoRecord(video, expression, "The mover.", tuple(f"{time:05d}" for time in range(t)), **fields)
