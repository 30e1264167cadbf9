import pytest
import torch

from evaluation.functional import ciou, giou, image_iou, region_counts


def image(*areas):
    """An image of ten pixels per number, of which the first so many are masked."""
    return torch.arange(10).view(1, 1, 10) < torch.tensor(areas).view(-1, 1, 1)


def test_means_of_images_and_of_pixels():
    pred, target = image(1, 8, 0), image(2, 10, 0)
    assert image_iou(pred, target).tolist() == [0.5, 0.8, 1.0]
    assert giou(image_iou(pred, target)).item() == pytest.approx(2.3 / 3)
    assert ciou(*region_counts(pred, target)).item() == pytest.approx(9 / 12)


def test_the_official_numbers_have_its_epsilons():
    pred, target = image(1, 0), image(2, 0)
    iou = image_iou(pred, target, official=True)
    assert iou.tolist() == [1 / (2 + 1e-5), 1.0]
    assert giou(iou, official=True).item() == pytest.approx((1 / (2 + 1e-5) + 1) / (2 + 1e-5), abs=1e-15)
    assert ciou(*region_counts(pred, target), official=True).item() == 1 / (2 + 1e-10)


def test_ignored_pixels_do_not_count():
    pred, target, void = image(6), image(4), image(8) & ~image(5)
    # pixels 5, 6 and 7 are ignored: 4 of 5 are shared
    assert image_iou(pred, target, void).item() == 4 / 5
    assert image_iou(pred, target, void, official=True).item() == 4 / (5 + 1e-5)
    assert ciou(*region_counts(pred, target, void)).item() == 4 / 5


def test_no_images():
    none = image()
    assert giou(image_iou(none, none)).isnan()
    assert giou(image_iou(none, none, official=True), official=True).isnan()
    assert ciou(*region_counts(none, none)).isnan()
