import gc
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.errors import BadSampleError
from datamodules.frames import ImageReader, VideoReader, inside
from tests.builders import two_squares, write_frames, write_mp4


@pytest.mark.parametrize("name", ["", "..", "../a", "a/../../b", "/etc", "a\0b", 3, None])
def test_unsafe_names(tmp_path, name):
    with pytest.raises(BadSampleError, match=r"'video/0'.*relative name") as caught:
        inside(tmp_path, "video", name, record="video/0")
    assert caught.value.reason == "unsafe name"


def test_safe_names(tmp_path):
    assert inside(tmp_path, "OVIS/train/a..b", "0.jpg", record="r") == tmp_path / "OVIS" / "train" / "a..b" / "0.jpg"


def test_images(tmp_path):
    masks = two_squares(t=3)
    names = write_frames(tmp_path, masks)
    reader = ImageReader([tmp_path / f"{name}.jpg" for name in names], "video/0")
    assert (len(reader), reader.size) == (3, (32, 32))
    frame = reader(1)
    assert (frame.dtype, frame.shape) == (torch.uint8, (3, 32, 32))
    assert torch.equal(frame.float().mean(dim=0) > 140, masks[:, 1].any(dim=0))


def test_colours_are_rgb(tmp_path):
    Image.new("RGB", (8, 4), (200, 100, 0)).save(tmp_path / "0.png")
    assert ImageReader([tmp_path / "0.png"], "r")(0)[:, 0, 0].tolist() == [200, 100, 0]


def test_bad_images(tmp_path):
    masks = two_squares(t=4)
    paths = [tmp_path / f"{name}.jpg" for name in write_frames(tmp_path, masks)]
    paths[1].write_bytes(paths[1].read_bytes()[:400])
    Image.new("RGB", (30, 32)).save(paths[2])
    paths[3].unlink()
    reader = ImageReader(paths, "video/0")
    assert reader(0).shape == (3, 32, 32)
    found = {}
    for time in (1, 2, 3):
        with pytest.raises(BadSampleError, match=rf"video/0.*{paths[time].name}") as caught:
            reader(time)
        found[time] = caught.value.reason
    assert found == {1: "unreadable frame", 2: "frame size", 3: "missing frame"}
    paths[0].write_bytes(b"no picture")
    with pytest.raises(BadSampleError, match=r"readable picture in .*00000.jpg"):
        ImageReader(paths, "video/0").size  # noqa: B018
    with pytest.raises(BadSampleError, match="empty video"):
        ImageReader([], "video/0").size  # noqa: B018


def test_video(tmp_path):
    masks = two_squares(t=5)
    write_mp4(tmp_path / "film.mp4", masks)
    reader = VideoReader(tmp_path / "film.mp4", "film/0")
    assert (len(reader), reader.size) == (5, (32, 32))
    for time in (3, 0, 1, 4, 4):  # forwards, backwards, and again
        seen = reader(time).float().mean(dim=0) > 140
        # lossy: the border may be off by a pixel
        assert (seen ^ masks[:, time].any(dim=0)).sum() <= 12, time


def test_rotated_video_is_read_upright(tmp_path):
    """A telephone held upright stores lying frames and a rotation."""
    lying = np.zeros((16, 32, 3), dtype=np.uint8)
    lying[:, :8] = 255  # a white bar at the left
    write_mp4(tmp_path / "lying.mp4", torch.from_numpy(lying[None, None, :, :, 0] > 0))
    _copy_rotated(tmp_path / "lying.mp4", tmp_path / "upright.mp4")
    with av.open(str(tmp_path / "upright.mp4")) as container:
        rotation = next(container.decode(video=0)).rotation
    assert abs(rotation) == 90
    reader = VideoReader(tmp_path / "upright.mp4", "film/0")
    assert reader.size == (32, 16)
    bright = reader(0).float().mean(dim=(0, 2)) > 140  # per row
    # counter-clockwise by 90 degrees the left edge goes to the bottom, clockwise to the top
    assert bright[-6:].all() if rotation == 90 else bright[:6].all()
    assert bright.sum() in range(6, 11)


def _copy_rotated(source, target):
    """Copy an MP4 with the display matrix of a quarter turn, patched into its track header."""
    data = bytearray(source.read_bytes())
    start = data.index(b"tkhd") + 4
    matrix = start + 4 + 5 * 4 + 8 + 8  # version 0: times, id, duration; then layer, volume
    one = 1 << 16
    turned = [0, one, 0, -one & 0xFFFFFFFF, 0, 0, int(Fraction(16)) << 16, 0, 1 << 30]
    for place, value in enumerate(turned):
        data[matrix + 4 * place : matrix + 4 * place + 4] = value.to_bytes(4, "big")
    target.write_bytes(data)


def test_bad_videos(tmp_path):
    write_mp4(tmp_path / "film.mp4", two_squares(t=5))
    with pytest.raises(BadSampleError, match=r"film/0.*ends after 5 frames, before time 5"):
        VideoReader(tmp_path / "film.mp4", "film/0")(5)
    with pytest.raises(BadSampleError, match="no such file") as caught:
        len(VideoReader(tmp_path / "absent.mp4", "film/0"))
    assert caught.value.reason == "missing frame"
    (tmp_path / "noise.mp4").write_bytes(b"no video at all" * 40)
    with pytest.raises(BadSampleError, match=r"readable video in .*noise.mp4") as caught:
        len(VideoReader(tmp_path / "noise.mp4", "film/0"))
    assert caught.value.reason == "unreadable frame"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads where Linux lists them")
def test_an_open_video_holds_no_threads(tmp_path):
    """A loader's worker that collects a decoder, or its converter, with threads of the main process waits for ever."""
    write_mp4(tmp_path / "film.mp4", two_squares(t=5))
    gc.collect()
    before = len(os.listdir("/proc/self/task"))
    reader = VideoReader(tmp_path / "film.mp4", "film/0")
    reader(0)
    assert len(os.listdir("/proc/self/task")) <= before
