import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco

from datamodules.errors import BadSampleError
from datamodules.frames import ImageReader
from datamodules.masks import (
    MaskReader,
    Picture,
    UnionReader,
    decode_picture,
    decode_rle,
    encode_rle,
    rle_area,
    rle_counts,
    union_area,
)
from tests.builders import rle_track, trip_pillow, two_squares

pictures = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def uncompressed(mask):
    """Run lengths column by column, by hand."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


@given(pictures)
def test_decode_inverts_encode(mask):
    rle = encode_rle(torch.from_numpy(mask))
    assert isinstance(rle["counts"], str)
    for code in (rle, rle | {"counts": rle["counts"].encode()}, uncompressed(mask)):
        decoded = decode_rle(code)
        assert decoded.dtype == torch.bool
        assert np.array_equal(decoded.numpy(), mask)
        assert rle_area(code) == mask.sum()


@given(pictures)
def test_counts_equal_pycocotools(mask):
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle_counts(rle).tolist() == uncompressed(mask)["counts"]


@given(arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 20), st.integers(1, 20))))
def test_union_area(masks):
    expected = masks.any(axis=0).sum() if len(masks) else 0
    assert union_area([encode_rle(torch.from_numpy(mask)) for mask in masks]) == expected
    assert union_area([uncompressed(mask) for mask in masks]) == expected


@pytest.mark.parametrize(
    "rle",
    [
        pytest.param({"size": [60, 80], "counts": ""}, id="no runs"),  # pycocotools decodes these to what memory held
        pytest.param({"size": [60, 80], "counts": "c79c1000000000"}, id="runs too short"),
        pytest.param({"size": [60, 80], "counts": [10, 4791]}, id="runs too long"),
        pytest.param({"size": [60, 80], "counts": [5000, -200]}, id="negative run"),
        pytest.param({"size": [60, 80], "counts": [2**70]}, id="beyond int64"),
        pytest.param({"size": [60, 80], "counts": [2**63 - 1, 2**63 - 1, 4802]}, id="a sum beyond int64"),
        pytest.param({"size": [60, 80], "counts": "zzzzzzzzzz"}, id="unfinished number"),
        pytest.param({"size": [60, 80], "counts": "~~~~"}, id="foreign characters"),
        pytest.param({"size": [60, 80], "counts": "é0"}, id="not ascii"),
        pytest.param({"size": [60, 80], "counts": None}, id="no counts"),
        pytest.param({"size": [60, 80], "counts": [1.5, 4798.5]}, id="fractions"),
        pytest.param({"size": [60], "counts": [60]}, id="one extent"),
        pytest.param({"size": [0, 80], "counts": []}, id="no height"),
        pytest.param({"counts": [60]}, id="no size"),
        pytest.param([1, 2], id="not an object"),
    ],
)
def test_malformed_rle(rle):
    with pytest.raises(ValueError, match="Expected"):
        decode_rle(rle)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_any_counts_decode_or_raise(counts):
    with contextlib.suppress(ValueError):
        assert decode_rle({"size": [6, 8], "counts": counts}).shape == (6, 8)


def test_union_of_two_sizes():
    with pytest.raises(ValueError, match="one size"):
        union_area([{"size": [1, 2], "counts": [0, 2]}, {"size": [2, 1], "counts": [0, 2]}])


@pytest.fixture
def palette(tmp_path):
    """Index 1 in the left column, 2 in the middle, 0 to the right; colours that would mislead a gray reader."""
    image = Image.fromarray(np.array([[1, 2, 0]] * 2, dtype=np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 0, 0])
    image.save(tmp_path / "palette.png")
    return tmp_path / "palette.png"


@pytest.mark.parametrize(
    ("label", "row"), [(None, [True, True, False]), (1, [True, False, False]), (2, [False, True, False])]
)
def test_picture(palette, label, row):
    assert decode_picture(Picture(palette, label)).tolist() == [row, row]


def test_gray_picture(tmp_path):
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(tmp_path / "gray.png")
    assert decode_picture(Picture(tmp_path / "gray.png")).tolist() == [[False, True]]


def test_bad_pictures(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match=r"rgb.png.*mode 'RGB'"):
        decode_picture(Picture(tmp_path / "rgb.png"))
    (tmp_path / "torn.png").write_bytes((tmp_path / "rgb.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"torn.png"):
        decode_picture(Picture(tmp_path / "torn.png"))


def test_a_picture_over_which_pillow_trips(tmp_path):
    path = tmp_path / "mask.png"
    Image.new("L", (4, 4), 1).save(path)
    path.write_bytes(trip_pillow(path.read_bytes()))
    with pytest.raises(ValueError, match="Expected a mask in"):
        decode_picture(Picture(path))
    with pytest.raises(BadSampleError, match="expected a readable picture"):
        ImageReader([path], "record")(0)


def test_reader():
    masks = two_squares(t=6)
    reader = MaskReader([rle_track(each) for each in masks], (32, 32), 6, "video/0")
    assert torch.equal(torch.stack([reader(time) for time in range(6)], dim=1), masks)
    # 8 x 8, and from the half 10 x 12 besides
    assert reader.areas() == [64, 64, 64, 184, 184, 184]
    chosen = reader.select([5, 2])
    assert len(chosen) == 2
    assert chosen.areas() == [184, 64]
    assert torch.equal(chosen(0), masks[:, 5])
    assert torch.equal(UnionReader(reader).select([4])(0), masks[:, 4].any(dim=0))


def test_reader_without_objects():
    reader = MaskReader([], (4, 5), 3, "video/0")
    assert reader(0).shape == (0, 4, 5)
    assert reader.areas() == [0, 0, 0]


def test_reader_of_pictures(palette):
    reader = MaskReader([[Picture(palette, 1), None], [Picture(palette, 2), Picture(palette)]], (2, 3), 2, "video/0")
    assert reader(0).sum(dim=(1, 2)).tolist() == [2, 2]
    assert reader.areas() == [4, 4]


@pytest.mark.parametrize(
    ("tracks", "message", "reason"),
    [
        pytest.param([[None] * 2], "each of the 3 frames, but got 2", "annotation length", id="short"),
        pytest.param(["abc"], "got a str", "annotation length", id="no list"),
        pytest.param(
            [[None, {"size": [5, 4], "counts": [20]}, None]], "4 x 5 .* but got 5 x 4", "mask size", id="size"
        ),
        pytest.param([[None, {"size": "x"}, None]], "object 0, time 1", "malformed mask", id="malformed"),
    ],
)
def test_reader_refuses(tracks, message, reason):
    with pytest.raises(BadSampleError, match=message) as caught:
        MaskReader(tracks, (4, 5), 3, "video/0")
    assert caught.value.reason == reason
    assert "video/0" in str(caught.value)


def test_reader_finds_malformed_runs_when_asked():
    reader = MaskReader([[None, {"size": [4, 5], "counts": [1]}]], (4, 5), 2, "video/0")
    assert not reader(0).any()
    for ask in (lambda: reader(1), reader.areas, reader.verify):
        with pytest.raises(BadSampleError, match=r"video/0.*time 1.*4 x 5 pixels, but got 1"):
            ask()


def test_reader_checks_the_size_of_pictures(palette):
    with pytest.raises(BadSampleError, match=r"4 x 5 .* but got 2 x 3"):
        MaskReader([[Picture(palette)]], (4, 5), 1, "video/0").verify()
