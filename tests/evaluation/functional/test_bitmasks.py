import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from datamodules.masks import decode_rle
from evaluation.functional import BitMasks
from tests.evaluation.functional import plain

videos = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5)) | arrays(
    bool, st.tuples(st.integers(1, 2), st.integers(60, 135), st.integers(1, 4))
)


@given(videos)
@example(np.arange(2 * 64 * 3).reshape(2, 64, 3) % 3 == 1)  # runs end where columns, words and planes do
def test_every_form_makes_the_same_bits(masks):
    time, height, width = masks.shape
    for make in plain.FORMS.values():
        bits = BitMasks.of(make(masks))
        assert bits.shape == masks.shape
        assert bits.words.shape == (time, -(-height // 64), width)
        assert np.array_equal(bits.dense().numpy(), masks)
        assert bits.areas().tolist() == masks.sum(axis=(1, 2)).tolist()


@given(st.data())
def test_sets(data):
    masks = data.draw(videos)
    other = data.draw(arrays(bool, masks.shape))
    a, b = BitMasks.of(masks), BitMasks.of(other)
    assert np.array_equal((a | b).dense().numpy(), masks | other)
    assert np.array_equal((a & b).dense().numpy(), masks & other)
    assert np.array_equal((a - b).dense().numpy(), masks & ~other)
    assert np.array_equal(a.select([0, 0]).dense().numpy(), masks[[0, 0]])


@given(videos)
def test_boundaries(masks):
    bits = BitMasks.of(masks)
    assert np.array_equal(bits.boundaries.dense().numpy(), np.stack([plain.boundary(mask) for mask in masks]))


@pytest.mark.parametrize("radius", [*range(1, 20), 31, 32, 33, 62, 63, 64, 65, 66, 127, 128, 129, 190])
@pytest.mark.parametrize("width", [3, 150])
def test_reach_of_a_pixel_is_a_disc(radius, width):
    """At the edges of the image and of the words, where what is moved too far is lost."""
    height = 200
    everywhere = BitMasks.of(np.ones((1, height, width), bool))
    for y, x in [(0, 0), (1, 1), (62, 2), (63, 0), (64, width - 1), (100, width // 2), (199, 1), (198, width - 2)]:
        pixel = np.zeros((1, height, width), bool)
        pixel[0, y, x] = True
        rows, columns = np.ogrid[:height, :width]
        disc = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        assert everywhere.count_near(BitMasks.of(pixel), radius) == disc.sum()
        assert BitMasks.of(disc[None]).count_near(BitMasks.of(pixel), radius) == disc.sum()


def test_boundaries_are_drawn_once():
    bits = BitMasks.empty((1, 4, 4))
    assert bits.boundaries is bits.boundaries
    assert BitMasks.of(bits) is bits


def outcome(decode):
    try:
        return decode().tolist()
    except ValueError as error:
        return str(error)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12))
@example("")
@example("P8")
@example("P")  # ends within a number
@example("`1`1")
@example("_PPPPPP0")  # 15, in a number of eight characters
def test_compressed_counts_are_read_as_elsewhere(counts):
    """Both parsers take the same strings for the same masks, and refuse the same."""
    rle = {"size": [5, 3], "counts": counts}
    assert outcome(lambda: BitMasks.of([rle]).dense()[0]) == outcome(lambda: decode_rle(rle))


@given(st.lists(st.integers(-3, 9), max_size=8))
def test_uncompressed_counts_are_read_as_elsewhere(counts):
    rle = {"size": [4, 2], "counts": counts}
    if min(counts, default=0) < 0 or sum(counts) != 8:
        with pytest.raises(ValueError, match="to fill 4 x 2 pixels"):
            BitMasks.of([rle])
    else:
        assert torch.equal(BitMasks.of([rle]).dense()[0], decode_rle(rle))


def test_masks_of_as_many_words_and_another_height_do_not_mix():
    a, b = BitMasks.empty((1, 4, 4)), BitMasks.empty((1, 5, 4))
    for operation in (a.__or__, a.__and__, a.__sub__):
        with pytest.raises(ValueError, match=r"one shape .*\(1, 4, 4\) and \(1, 5, 4\)"):
            operation(b)


@pytest.mark.parametrize("masks", [torch.zeros(4, 4, dtype=torch.bool), np.zeros((1, 4, 4), np.uint8)])
def test_of_refuses(masks):
    with pytest.raises(ValueError, match=r"Expected masks to be bool \(T, H, W\), but got"):
        BitMasks.of(masks)
