"""IoU of images and of sets of images, as LISA measures ReasonSeg and RefCOCO (arXiv 2308.00692)."""

from torch import Tensor

from evaluation.functional.bitmasks import Masks
from evaluation.functional.regions import region_counts, region_similarity

#: what LISA's code adds to denominators: to the union of an image, the number of images and the sum of unions
_TO_UNION, _TO_COUNT, _TO_UNIONS = 1e-5, 1e-5, 1e-10


def image_iou(pred: Masks, target: Masks, void: Masks | None = None, official: bool = False) -> Tensor:
    """Return the IoU of each image, 1 where neither mask has a pixel; the images are the frames of the masks.

    Args:
        pred: masks of N images.
        target: masks of N images.
        void: pixels that do not count ("ignore" of ReasonSeg).
        official: ``I / (U + 1e-5)``, and 1 more where the union is empty, as LISA's code.

    Returns:
        ``float64 (N,)`` in [0, 1].

    Raises:
        ValueError: if the masks are not of one shape.

    Example:
        >>> import torch
        >>> image_iou(torch.tensor([[[True, True]]]), torch.tensor([[[True, False]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    if not official:
        return region_similarity(pred, target, void)
    intersection, union = region_counts(pred, target, void)
    return intersection / (union.double() + _TO_UNION) + (union == 0)


def giou(iou: Tensor, official: bool = False) -> Tensor:
    """Return gIoU, the mean over images (no relation to the generalised IoU of boxes).

    Args:
        iou: ``float64 (N,)`` of `image_iou`.
        official: divide by ``N + 1e-5``, as LISA's code.

    Returns:
        ``float64 ()`` in [0, 1], NaN without images.

    Example:
        >>> import torch
        >>> giou(torch.tensor([1.0, 0.5], dtype=torch.float64))
        tensor(0.7500, dtype=torch.float64)
    """
    return iou.sum() / (len(iou) + _TO_COUNT) if official and len(iou) else iou.mean()


def ciou(intersection: Tensor, union: Tensor, official: bool = False) -> Tensor:
    """Return cIoU, the sum of intersections over the sum of unions, so that large objects weigh more.

    Args:
        intersection: ``(N,)`` pixels of each image.
        union: ``(N,)`` pixels of each image.
        official: add ``1e-10`` to the denominator, as LISA's code.

    Returns:
        ``float64 ()`` in [0, 1], NaN (official: 0) if no image has a pixel.

    Example:
        >>> import torch
        >>> ciou(torch.tensor([1, 90]), torch.tensor([2, 98]))
        tensor(0.9100, dtype=torch.float64)
    """
    return intersection.double().sum() / (union.double().sum() + (_TO_UNIONS if official else 0.0))
