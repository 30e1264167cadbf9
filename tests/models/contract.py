"""What every segmenter owes its callers, whatever its weights: ``@pytest.mark.parametrize("check", CHECKS)``."""

import torch
from torch import Tensor

from models.segmenters.base import Prompt, Segmenter

T, H, W = 6, 48, 64
EVERY = list(range(T))
#: boxes that cover no pixel of the frame
EMPTY_BOXES = {
    "outside": [70.0, 5.0, 90.0, 20.0],
    "above": [5.0, -30.0, 20.0, -2.0],
    "zero": [0.0, 0.0, 0.0, 0.0],
    "inverted": [30.0, 30.0, 10.0, 10.0],
    "thin": [10.0, 10.0, 10.0, 30.0],
    "not a number": [float("nan")] * 4,
    "infinite": [float("-inf"), 0.0, float("inf"), 10.0],
}


def square_masks() -> Tensor:
    """A square of 16 pixels that moves right by 4 per frame, ``bool (T, H, W)``; at time 2 it is ``SQUARE``."""
    masks = torch.zeros(T, H, W, dtype=torch.bool)
    for time in EVERY:
        masks[time, 12:28, 4 + 4 * time : 20 + 4 * time] = True
    return masks


def square_frames() -> Tensor:
    """The red square on dark noise, ``uint8 (T, 3, H, W)``."""
    noise = torch.randint(20, 40, (T, 3, H, W), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    red = torch.tensor([230, 40, 40], dtype=torch.uint8).reshape(1, 3, 1, 1)
    return torch.where(square_masks().unsqueeze(1), red, noise)


SQUARE = [12.0, 12.0, 28.0, 28.0]
CORNER = [40.0, 30.0, 60.0, 46.0]


def prompt(frame: int, *boxes: list[float]) -> Prompt:
    """A prompt without points."""
    return Prompt(frame, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))


def check_shapes(segmenter: Segmenter) -> None:
    masks = segmenter(square_frames(), [prompt(2, SQUARE), prompt(0), prompt(5, CORNER, SQUARE)], [4, 1])
    assert [tuple(planes.shape) for planes in masks] == [(1, 2, H, W), (0, 2, H, W), (2, 2, H, W)]
    assert all(planes.dtype == torch.bool and planes.device.type == "cpu" for planes in masks)
    assert segmenter(square_frames(), [], EVERY) == []


def check_determinism(segmenter: Segmenter) -> None:
    frames = square_frames()
    first = segmenter(frames, [prompt(2, SQUARE, CORNER)], EVERY)[0]
    torch.rand(7)
    assert torch.equal(segmenter(frames, [prompt(2, SQUARE, CORNER)], EVERY)[0], first)
    assert torch.equal(frames, square_frames()), "the frames were changed"


def check_prompts_are_independent(segmenter: Segmenter) -> None:
    prompts = [prompt(2, SQUARE), prompt(0, CORNER), prompt(2, SQUARE), prompt(3, SQUARE)]
    together = segmenter(square_frames(), prompts, EVERY)
    alone = [segmenter(square_frames(), [each], EVERY)[0] for each in prompts]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))
    assert torch.equal(together[0], together[2])


def check_order_of_frames(segmenter: Segmenter) -> None:
    asked = [prompt(2, SQUARE)]
    every = segmenter(square_frames(), asked, EVERY)[0]
    for times in ([5, 0, 3, 3], [2], [0, 1], []):
        assert torch.equal(segmenter(square_frames(), asked, times)[0], every[:, times]), times


def check_boxes_without_pixels(segmenter: Segmenter) -> None:
    masks = segmenter(square_frames(), [prompt(2, *EMPTY_BOXES.values())], EVERY)[0]
    assert {name: int(plane.sum()) for name, plane in zip(EMPTY_BOXES, masks, strict=True)} == dict.fromkeys(
        EMPTY_BOXES, 0
    )
    mixed = segmenter(square_frames(), [prompt(2, EMPTY_BOXES["inverted"], SQUARE)], EVERY)[0]
    assert not mixed[0].any()
    assert torch.equal(mixed[1:], segmenter(square_frames(), [prompt(2, SQUARE)], EVERY)[0])


def check_boxes_across_the_border(segmenter: Segmenter) -> None:
    boxes = [[-5.0, -5.0, 30.0, 30.0], [50.0, 30.0, 900.0, 900.0], [-1e9, -1e9, 1e9, 1e9]]
    masks = segmenter(square_frames(), [prompt(2, *boxes)], EVERY)[0]
    assert masks.shape == (3, T, H, W)


#: to be run on every segmenter
CHECKS = [
    check_shapes,
    check_determinism,
    check_prompts_are_independent,
    check_order_of_frames,
    check_boxes_without_pixels,
    check_boxes_across_the_border,
]


def check_prompt_is_reproduced(segmenter: Segmenter) -> None:
    """A true box gives the true mask on its own frame; for segmenters that can segment, so not for random weights."""
    mask = segmenter(square_frames(), [prompt(2, SQUARE)], [2])[0][0, 0]
    truth = square_masks()[2]
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95
