import json

import numpy as np
import pytest
import torch

from evaluation.functional import BitMasks, accuracy, official_accuracy, official_robustness, robustness
from tests.golden import FOLDER

VIDEOS = json.loads((FOLDER / "jf_golden.json").read_text())["revos_AR_videos"]


def plain(pred, objects, foreground, value):
    """The tool's arithmetic, pixel by pixel, in uint8 as numpy has it."""
    target = np.zeros(pred.shape, np.uint8)
    for mask in objects:
        target += mask.astype(np.uint8)
    stored = pred.astype(np.uint8) * np.uint8(value)
    equal = (target == stored).mean(axis=(1, 2))
    wrong = ((np.uint8(1) - target) * stored).sum(axis=(1, 2), dtype=np.int64)
    return equal, np.maximum(0, 1 - wrong / (foreground.sum(axis=(1, 2)) + 1e-6))


def random_video(generator, count):
    shape = (3, *generator.integers(1, 80, 2))
    masks = [generator.random(shape) < generator.choice([0.0, 0.05, 0.4, 1.0]) for _ in range(count + 2)]
    return masks[0], masks[2:], masks[1]


def both(pred, objects, foreground, value):
    bits = [BitMasks.of(mask) for mask in objects]
    equal = official_accuracy(BitMasks.of(pred), bits, value)
    return equal, official_robustness(BitMasks.of(pred), bits, BitMasks.of(foreground), value)


@pytest.mark.parametrize("value", [1, 2, 38, 255])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_against_uint8_arithmetic(count, value):
    generator = np.random.default_rng(count)
    for _ in range(20):
        video = random_video(generator, count)
        for got, expected in zip(both(*video, value), plain(*video, value), strict=True):
            assert got.dtype == torch.float64
            np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


def test_counts_wrap_around_at_256_objects():
    mask = np.ones((1, 2, 2), bool)
    for count in (255, 256, 257):
        objects = [mask] * count
        for got, expected in zip(both(mask, objects, mask, 1), plain(mask, objects, mask, 1), strict=True):
            assert got.tolist() == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.parametrize("value", [0, 256, -1])
def test_a_value_is_one_of_uint8_and_not_0(value):
    mask = np.ones((1, 2, 2), bool)
    with pytest.raises(ValueError, match=f"`value` to be in 1..255, but got {value}"):
        both(mask, [mask], mask, value)


def golden_masks(video, name):
    return BitMasks.of(video[name]).dense().numpy()


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video["name"])
def test_golden_videos(video):
    names = ("pred_frames_bin", "gt_frames_bin", "gt_frames_eq2", "foreground")
    pred, once, twice, foreground = (golden_masks(video, name) for name in names)
    equal, kept = both(pred, [once, twice], foreground, video["pred_value"])
    assert equal.tolist() == pytest.approx(video["A"], abs=1e-9)
    assert kept.tolist() == pytest.approx(video["R"], abs=1e-9)


@pytest.mark.parametrize("values", [torch.from_numpy, lambda array: array], ids=["torch", "numpy"])
def test_official_measures_of_values(values):
    generator = np.random.default_rng(5)
    pred, objects, foreground = random_video(generator, 3)
    target = np.sum(objects, axis=0, dtype=np.uint8)
    for value in (1, 255):
        equal, kept = plain(pred, objects, foreground, value)
        stored, summed = values(pred * np.uint8(value)), values(target)
        assert accuracy(stored, summed, official=True).tolist() == pytest.approx(equal, abs=1e-12)
        assert robustness(stored, summed, foreground, official=True).tolist() == pytest.approx(kept, abs=1e-12)
    assert accuracy(pred, target, official=True).tolist() == pytest.approx(equal, abs=1e-12)  # 255 where it is not said
    assert robustness(BitMasks.of(pred), target, foreground, official=True).tolist() == pytest.approx(kept, abs=1e-12)


def square(top, left, side, size=32):
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[:, top : top + side, left : left + side] = True
    return mask


EMPTY, FULL = square(0, 0, 0), square(0, 0, 32)


def test_robustness():
    # the prediction covers the target and a quarter of the rest of a foreground of 64 pixels: 64 + 16 wrong pixels
    target, foreground = square(8, 8, 8), square(8, 8, 8)
    assert robustness(target, target, foreground).item() == 1
    wrong = square(20, 20, 4)
    assert robustness(target | wrong, target, foreground).item() == pytest.approx(1 - 16 / 64)
    assert robustness(FULL, target, foreground).item() == 0
    assert robustness(EMPTY, EMPTY, EMPTY).item() == 1
    assert robustness(wrong, EMPTY, EMPTY).item() == 0


def test_official_robustness_of_bool_masks_counts_a_wrong_pixel_255_times():
    target, foreground = square(0, 0, 2), square(0, 0, 32)
    pred = target | square(20, 20, 2)
    assert robustness(pred, target, foreground, official=True).item() == pytest.approx(1 - 4 * 255 / 1024, abs=1e-8)
    assert robustness(pred, target, foreground).item() == pytest.approx(1 - 4 / 1024)


def test_accuracy():
    target = square(0, 0, 8)
    assert accuracy(target, target).item() == 1
    assert accuracy(target, square(0, 4, 8)).item() == pytest.approx(1 - 64 / 1024)
    assert accuracy(FULL, EMPTY).item() == 0
    # what is stored as 255 is not the target's 1
    assert accuracy(target, target, official=True).item() == pytest.approx(1 - 64 / 1024)
