import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from evaluation.functional import BitMasks, official_accuracy, official_robustness
from tests.golden import FOLDER

VIDEOS = json.loads((FOLDER / "jf_golden.json").read_text())["revos_AR_videos"]


def plain(pred, objects, foreground, value):
    """The tool's arithmetic, pixel by pixel, in uint8 as numpy has it."""
    target = np.zeros(pred.shape, np.uint8)
    for mask in objects:
        target += mask.astype(np.uint8)
    stored = pred.astype(np.uint8) * np.uint8(value)
    accuracy = (target == stored).mean(axis=(1, 2))
    wrong = ((np.uint8(1) - target) * stored).sum(axis=(1, 2), dtype=np.int64)
    return accuracy, np.maximum(0, 1 - wrong / (foreground.sum(axis=(1, 2)) + 1e-6))


def random_video(generator, count):
    shape = (3, *generator.integers(1, 80, 2))
    masks = [generator.random(shape) < generator.choice([0.0, 0.05, 0.4, 1.0]) for _ in range(count + 2)]
    return masks[0], masks[2:], masks[1]


def both(pred, objects, foreground, value):
    bits = [BitMasks.of(mask) for mask in objects]
    accuracy = official_accuracy(BitMasks.of(pred), bits, value)
    return accuracy, official_robustness(BitMasks.of(pred), bits, BitMasks.of(foreground), value)


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


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video["name"])
def test_golden_videos(video):
    once, twice, pred, foreground = (
        np.stack([coco.decode(rle | {"counts": rle["counts"].encode()}) > 0 for rle in video[name]])
        for name in ("gt_frames_bin", "gt_frames_eq2", "pred_frames_bin", "foreground")
    )
    accuracy, robustness = both(pred, [once, twice], foreground, video["pred_value"])
    assert accuracy.tolist() == pytest.approx(video["A"], abs=1e-9)
    assert robustness.tolist() == pytest.approx(video["R"], abs=1e-9)
