import json
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from scipy import ndimage

from evaluation.functional import (
    boundary_accuracy,
    boundary_counts,
    boundary_radius,
    region_counts,
    region_similarity,
    robustness,
)
from tests.golden import FOLDER

GOLDEN = json.loads((FOLDER / "jf_golden.json").read_text())
FRAMES = {frame["desc"]: frame for frame in GOLDEN["frames"]}
VIDEOS = {video["name"]: video for video in GOLDEN["revos_AR_videos"]}


def decode(rle):
    return coco.decode({"size": rle["size"], "counts": rle["counts"].encode()})


def decode_all(rles):
    return np.stack([decode(rle) for rle in rles])


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_golden_frames(frame):
    pred, target = decode(frame["pred"])[None] > 0, decode(frame["gt"])[None] > 0
    void = None if frame["void"] is None else decode(frame["void"])[None] > 0
    assert boundary_radius(frame["height"], frame["width"]) == frame["bound_pix"]
    region, boundary = region_counts(pred, target, void), boundary_counts(pred, target, void)
    names = ("n_pred_boundary", "n_gt_boundary", "n_pred_match", "n_gt_match")
    assert [count.item() for count in (*region, *boundary)] == [frame[name] for name in ("inter", "union", *names)]
    assert region_similarity(pred, target, void).item() == frame["J"]
    assert boundary_accuracy(pred, target, void).item() == frame["F"]


@pytest.mark.parametrize("video", VIDEOS.values(), ids=VIDEOS)
def test_golden_videos(video):
    target = decode_all(video["gt_frames_bin"]) + decode_all(video["gt_frames_eq2"])
    pred = decode_all(video["pred_frames_bin"]) * np.uint8(video["pred_value"])
    foreground = decode_all(video["foreground"])
    assert region_similarity(pred > 0, target > 0).tolist() == video["J"]
    assert boundary_accuracy(pred > 0, target > 0).tolist() == video["F"]
    assert robustness(pred, target, foreground, official=True).tolist() == pytest.approx(video["R"], abs=1e-9)


def plain_boundary(mask):
    """The definition, neighbour by neighbour, on a mask whose last row and column are repeated."""
    repeated = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, both = repeated[:-1, 1:], repeated[1:, :-1], repeated[1:, 1:]
    return (mask != right) | (mask != below) | (mask != both)


def plain_counts(pred, target, radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x**2 + y**2 <= radius**2
    a, b = plain_boundary(pred), plain_boundary(target)
    near_a, near_b = (ndimage.binary_dilation(boundary, disc) for boundary in (a, b))
    return [int(part.sum()) for part in (a, b, a & near_b, b & near_a)]


def random_mask(generator, height, width):
    kind = generator.integers(4)
    if kind == 0:
        return generator.random((height, width)) < generator.choice([0.0, 0.02, 0.5, 1.0])
    y, x = np.mgrid[:height, :width]
    centre, size = generator.random(2) * (height, width), 1 + generator.random(2) * (height, width) / 2
    if kind == 1:
        return (np.abs(y - centre[0]) < size[0]) & (np.abs(x - centre[1]) < size[1])
    blob = ((y - centre[0]) / size[0]) ** 2 + ((x - centre[1]) / size[1]) ** 2 < 1
    return blob if kind == 2 else blob ^ (generator.random((height, width)) < 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_boundary_counts_against_the_definition(seed):
    generator = np.random.default_rng(seed)
    for _ in range(100):
        height, width = generator.integers(1, 90, 2)
        pred, target = (random_mask(generator, height, width) for _ in range(2))
        radius = int(generator.integers(1, 14))
        got = boundary_counts(pred[None], target[None], tolerance=radius)
        assert [count.item() for count in got] == plain_counts(pred, target, radius)


@pytest.mark.parametrize("radius", [31, 32, 33, 63, 64, 70])
def test_reach_across_words(radius):
    """Rows are packed into words of 64 pixels; the reach crosses one or two of their borders."""
    generator = np.random.default_rng(radius)
    for _ in range(20):
        pred, target = generator.random((2, 60, 200)) < 0.0005
        got = boundary_counts(pred[None], target[None], tolerance=radius)
        a, b = (np.argwhere(plain_boundary(mask)) for mask in (pred, target))
        near = ((a[:, None] - b[None]) ** 2).sum(-1) <= radius**2
        expected = [len(a), len(b), near.any(1).sum(), near.any(0).sum()]
        assert [count.item() for count in got] == expected


def test_batch_is_frame_by_frame():
    generator = np.random.default_rng(1)
    pred, target, void = generator.random((3, 6, 40, 50)) < 0.3
    for measure in (region_similarity, boundary_accuracy):
        together = measure(pred, target, void)
        assert together.dtype == torch.float64
        alone = [measure(pred[t : t + 1], target[t : t + 1], void[t : t + 1]).item() for t in range(6)]
        assert together.tolist() == alone
        assert measure(*map(torch.from_numpy, (pred, target, void))).tolist() == alone


def square(top, left, side, size=32):
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[:, top : top + side, left : left + side] = True
    return mask


EMPTY, FULL = square(0, 0, 0), square(0, 0, 32)


@pytest.mark.parametrize(
    ("pred", "target", "similarity", "accuracy"),
    [
        pytest.param(EMPTY, EMPTY, 1, 1, id="both_empty"),
        pytest.param(FULL, FULL, 1, 1, id="both_full"),
        pytest.param(FULL, EMPTY, 0, 1, id="full_against_empty_has_no_boundary"),
        pytest.param(square(8, 8, 8), EMPTY, 0, 0, id="nothing_there"),
        pytest.param(EMPTY, square(8, 8, 8), 0, 0, id="nothing_predicted"),
        pytest.param(square(8, 8, 8), square(8, 8, 8), 1, 1, id="same"),
        # 8 x 8 moved by 4: 32 shared of 96
        pytest.param(square(8, 8, 8), square(8, 12, 8), 1 / 3, None, id="half"),
        # one pixel to the right is within the radius of 1
        pytest.param(square(8, 8, 8), square(8, 9, 8), 56 / 72, 1, id="within_reach"),
        pytest.param(square(2, 2, 4), square(20, 20, 4), 0, 0, id="far"),
    ],
)
def test_closed_form(pred, target, similarity, accuracy):
    assert region_similarity(pred, target).item() == similarity
    assert accuracy is None or boundary_accuracy(pred, target).item() == accuracy


@pytest.mark.parametrize(
    ("top", "left", "expected"),
    [(8, 8, 4), (0, 0, 1), (0, 31, 2), (31, 0, 2), (31, 31, 3)],
    ids=["interior", "top_left", "top_right", "bottom_left", "bottom_right"],
)
def test_boundary_of_one_pixel(top, left, expected):
    assert boundary_counts(square(top, left, 1), EMPTY).pred.item() == expected


def test_identities():
    generator = np.random.default_rng(4)
    pred, target = (torch.from_numpy(generator.random((4, 48, 64)) < 0.4) for _ in range(2))
    for measure in (region_similarity, boundary_accuracy):
        torch.testing.assert_close(measure(pred, target), measure(target, pred))
        torch.testing.assert_close(measure(pred.mT, target.mT), measure(pred, target))
        assert measure(pred, pred).tolist() == [1, 1, 1, 1]
    assert measure(pred, target, torch.ones_like(pred)).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("top", "left", "expected"), [(8, 0, 2), (8, 31, 4), (0, 8, 2), (31, 8, 4)], ids=["left", "right", "top", "bottom"]
)
def test_boundary_is_not_symmetric_under_flips(top, left, expected):
    assert boundary_counts(square(top, left, 1), EMPTY).pred.item() == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((80, 96), 1), ((120, 160), 2), ((480, 854), 8), ((720, 1280), 12), ((1080, 1920), 18)],
)
def test_boundary_radius(size, expected):
    assert boundary_radius(*size) == expected
    assert boundary_radius(*size, tolerance=3.0) == 3


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


BOOL, LARGER = torch.zeros(2, 4, 4, dtype=torch.bool), torch.zeros(2, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: region_similarity(BOOL, LARGER), r"`pred`, `target` to have one shape.*\(2, 4, 4\).*\(2, 4, 5\)"),
        (lambda: boundary_accuracy(BOOL, BOOL, LARGER), r"`void` to have one shape.*\(2, 4, 4\).*\(2, 4, 5\)"),
        (
            lambda: boundary_accuracy(BOOL, BOOL.float()),
            r"`target` to be bool \(T, H, W\), but got float32",
        ),
        (lambda: region_similarity(BOOL[0], BOOL[0]), r"`pred` to be bool \(T, H, W\), but got bool \(4, 4\)"),
        (lambda: robustness(BOOL.byte(), BOOL, BOOL), r"`pred` to be bool \(T, H, W\), but got uint8"),
        (lambda: robustness(BOOL, BOOL, LARGER), r"`foreground` to have one shape"),
        (lambda: robustness(BOOL.int(), BOOL, BOOL, True), r"`pred` to be bool or uint8 \(T, H, W\), but got int32"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_frames():
    none = BOOL[:0]
    assert region_similarity(none, none).shape == boundary_accuracy(none, none).shape == (0,)


def test_plain_definition_agrees_with_the_golden_file():
    """The reference of this file is itself checked, on the smallest frames."""
    for frame in (frame for frame in FRAMES.values() if frame["height"] * frame["width"] < 5000 and not frame["void"]):
        radius = math.ceil(0.008 * math.hypot(frame["height"], frame["width"]))
        counts = plain_counts(decode(frame["pred"]) > 0, decode(frame["gt"]) > 0, radius)
        assert counts == [frame[name] for name in ("n_pred_boundary", "n_gt_boundary", "n_pred_match", "n_gt_match")]
