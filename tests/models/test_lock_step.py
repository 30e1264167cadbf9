"""Lock-step tracking on random weights: the logits of a session per prompt, and no call more than its steps."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from models.segmenters import SAM2Segmenter
from models.segmenters.base import Prompt, Segmenter
from models.segmenters.sam2_step import MemoryBank
from tests.models.contract import CHECKS
from tests.models.test_sam2 import ARGUMENTS, SMALL, SQUARE, WIDE, H, W, calls, prompt

T = 9  # more than memories (3 after the prompted frame) and pointers (4) reach
EVERY = list(range(T))
#: the only arguments in which the released checkpoints differ, but for sizes
RELEASES = {
    "2.0": {"enable_temporal_pos_encoding_for_object_pointers": False, "enable_occlusion_spatial_embedding": False},
    "2.1": {"enable_temporal_pos_encoding_for_object_pointers": True, "enable_occlusion_spatial_embedding": True},
}
Logits = dict[tuple[int, int, int], Tensor]


def build(dtype: torch.dtype = torch.float64, track_batch_size: int = 16, **config: Any) -> SAM2Segmenter:
    """Random weights, also where transformers begins with zeros: there mistakes would not be seen."""
    arguments = deepcopy(ARGUMENTS)
    arguments["config"] |= {"max_object_pointers_in_encoder": 5} | config
    segmenter = SAM2Segmenter(**arguments, track_batch_size=track_batch_size)
    generator = torch.Generator().manual_seed(0)
    for weight in segmenter.model.parameters():
        if not weight.any():
            weight.data = 0.2 * torch.randn(weight.shape, generator=generator)
    segmenter.model.mask_decoder.pred_obj_score_head.proj_out.bias.data -= 7  # some objects are judged absent
    segmenter.dtype = dtype
    segmenter.model.to(dtype)
    return segmenter


def video(num_frames: int = T) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_frames, 3, H, W), generator=generator, dtype=torch.uint8)


def draw_prompts(count: int, num_frames: int = T) -> list[Prompt]:
    """Prompts of 1 to 3 boxes and 0 to 2 points, on the first, the last and other frames."""
    generator = torch.Generator().manual_seed(1)
    drawn = []
    for index in range(count):
        boxes, points = 1 + index % 3, (index // 2) % 3
        corner = torch.rand(boxes, 2, generator=generator) * torch.tensor([W - 20.0, H - 20.0])
        size = 4 + torch.rand(boxes, 2, generator=generator) * 16
        hints = torch.rand(boxes, points, 2, generator=generator) * torch.tensor([W, H])
        labels = torch.randint(0, 2, (boxes, points), generator=generator)
        frame = (index * 4 + index // num_frames) % num_frames
        extra = (hints, labels) if points else (None, None)
        drawn.append(Prompt(frame, torch.cat([corner, corner + size], 1), *extra))
    return drawn


@pytest.fixture(autouse=True, scope="module")
def nothing_is_rounded_to_float32() -> Iterator[None]:
    """Let networks in float64 stay in float64.

    Batches sum in another order, and memories round what comes out to bfloat16. In float64 the difference is far below
    what memories keep; if rotary embeddings and masks were rounded to float32 on the way, as they are, it would not be.
    """
    rounded = Tensor.float
    with patch.object(Tensor, "float", lambda tensor: tensor if tensor.dtype == torch.float64 else rounded(tensor)):
        yield


def in_sessions(segmenter: SAM2Segmenter, frames: Tensor, prompts: Sequence[Prompt]) -> Logits:
    """Every prompt in sessions of its own, one for each direction."""
    with torch.no_grad():
        encoded = segmenter.encode(frames)
        tracked = [segmenter.track(encoded, each, range(len(frames))) for each in prompts]
    return {
        (index, row, time): plane
        for index, logits in enumerate(tracked)
        for time, planes in logits.items()
        for row, plane in enumerate(planes)
    }


def in_lock_step(
    segmenter: SAM2Segmenter, frames: Tensor, prompts: Sequence[Prompt], times: Sequence[int] | None = None
) -> Logits:
    logits: Logits = {}
    with torch.no_grad():
        wanted = range(len(frames)) if times is None else times
        for places, planes in segmenter.track_all(segmenter.encode(frames), prompts, wanted):
            assert logits.keys().isdisjoint(places)
            logits |= zip(places, planes, strict=True)
    return logits


def assert_close(ours: Logits, theirs: Logits, bound: float) -> None:
    assert ours.keys() == theirs.keys()
    assert max([(ours[place] - theirs[place]).abs().max().item() for place in theirs], default=0) <= bound


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, nothing_is_rounded_to_float32: None) -> tuple[SAM2Segmenter, Logits]:
    """A network and what it says of 16 prompts, one after the other."""
    segmenter = build(**RELEASES[request.param])
    return segmenter, in_sessions(segmenter, video(), draw_prompts(16))


@pytest.fixture(scope="module")
def segmenter() -> SAM2Segmenter:
    return build()


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_logits_equal_sessions(release: tuple[SAM2Segmenter, Logits], count: int) -> None:
    segmenter, expected = release
    few = {place: logits for place, logits in expected.items() if place[0] < count}
    assert_close(in_lock_step(segmenter, video(), draw_prompts(count)), few, 1e-8)


def test_the_cases_are_there(release: tuple[SAM2Segmenter, Logits]) -> None:
    """What the equality above is about: different masks, present and absent objects, all kinds of prompts."""
    _, expected = release
    absent = sum(bool((logits == -1024).all()) for logits in expected.values())
    assert 0.05 < absent / len(expected) < 0.8
    assert len({(logits > 0).sum().item() for logits in expected.values()}) > 50
    prompts = draw_prompts(16)
    assert {0, T // 2, T - 1} < {each.frame for each in prompts}
    assert {1, 2, 3} == {len(each.boxes) for each in prompts}
    assert {0, 1, 2} == {0 if each.labels is None else each.labels.shape[1] for each in prompts}


@pytest.mark.parametrize("times", [[4], [0, 8], [2, 3, 3], [7, 1], []], ids=str)
def test_wanted_frames(release: tuple[SAM2Segmenter, Logits], times: list[int]) -> None:
    segmenter, expected = release
    wanted = {place: logits for place, logits in expected.items() if place[2] in times}
    assert_close(in_lock_step(segmenter, video(), draw_prompts(16), times), wanted, 1e-8)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_short_videos(segmenter: SAM2Segmenter, num_frames: int) -> None:
    frames, prompts = video(num_frames), draw_prompts(3, num_frames)
    assert_close(in_lock_step(segmenter, frames, prompts), in_sessions(segmenter, frames, prompts), 1e-8)


@pytest.mark.parametrize("check", CHECKS)
def test_contract(segmenter: SAM2Segmenter, check: Callable[[Segmenter], None]) -> None:
    check(segmenter)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_objects_at_once_are_bounded(batch_size: int) -> None:
    segmenter = build(track_batch_size=batch_size)
    prompts = draw_prompts(4)
    with calls(segmenter.model.mask_decoder) as decoded:
        ours = in_lock_step(segmenter, video(), prompts)
    assert max(decoded) == batch_size
    assert_close(ours, in_sessions(segmenter, video(), prompts), 1e-8)


def test_other_ways_to_choose_a_mask() -> None:
    """Several masks for a prompt of many points, one in tracking: the opposite of the released checkpoints."""
    segmenter = build(multimask_max_pt_num=9, multimask_output_for_tracking=False)
    prompts = draw_prompts(4)
    assert_close(in_lock_step(segmenter, video(), prompts), in_sessions(segmenter, video(), prompts), 1e-8)


@pytest.mark.parametrize("config", RELEASES.values(), ids=RELEASES)
def test_bound_in_float32(config: dict[str, bool]) -> None:
    segmenter = build(torch.float32, initializer_range=0.06, **config)
    prompts = draw_prompts(8)
    ours, theirs = (way(segmenter, video(), prompts) for way in (in_lock_step, in_sessions))
    assert max(logits.abs().max() for logits in theirs.values()) > 0.1
    assert_close(ours, theirs, 1e-5)


def test_bfloat16() -> None:
    segmenter = build(torch.bfloat16, initializer_range=0.06)
    prompts = draw_prompts(4)
    ours, theirs = (way(segmenter, video(), prompts) for way in (in_lock_step, in_sessions))
    assert ours.keys() == theirs.keys()
    assert {logits.dtype for logits in ours.values()} == {torch.bfloat16}
    agree = torch.stack([((ours[place] > 0) == (theirs[place] > 0)).float().mean() for place in theirs])
    assert agree.mean() > 0.99


@pytest.mark.parametrize("frames", [[0], [T // 2], EVERY], ids=["first", "middle", "every"])
def test_work_does_not_grow_with_the_prompts(frames: list[int]) -> None:
    """Frames are encoded once; there are as many steps as the longest way has frames, if all objects fit in a batch."""
    segmenter = build(track_batch_size=64)
    model = segmenter.model
    with (
        calls(model.vision_encoder) as encoded,
        calls(model.memory_attention) as attended,
        calls(model.memory_encoder) as remembered,
        calls(model.mask_decoder) as decoded,
    ):
        segmenter(video(), [prompt(frame, SQUARE, WIDE) for frame in frames], EVERY)
    assert sum(encoded) == T
    sizes = [2 * sum((frame + s < T) + (frame - s >= 0) for frame in frames) for s in range(1, T)]
    sizes = [size for size in sizes if size]
    assert len(attended) == len(sizes) == max(max(frame, T - 1 - frame) for frame in frames)
    assert decoded == [2 * len(frames), *sizes]
    # What nobody reads is not encoded: the end of a track.
    assert remembered == [2 * len(frames), *sizes[1:]]


def test_nothing_is_tracked_for_prompted_frames_alone(segmenter: SAM2Segmenter) -> None:
    with calls(segmenter.model.mask_decoder) as decoded, calls(segmenter.model.memory_encoder) as remembered:
        segmenter(video(), [prompt(3, SQUARE), prompt(3, WIDE)], [3])
    assert (decoded, remembered) == ([2], [])


def test_an_object_of_several_prompts_runs_once(segmenter: SAM2Segmenter) -> None:
    asked = [
        prompt(3, SQUARE, WIDE),
        prompt(3, WIDE, SMALL, WIDE),
        prompt(3, [-40.0, 20.0, 5.0, 30.0]),
        prompt(3, [-1e9, 20.0, 5.0, 30.0]),
        prompt(4, WIDE),
    ]
    with calls(segmenter.model.mask_decoder) as decoded:
        masks = segmenter(video(), asked, [3, 4])
    assert decoded == [5, 5]
    assert torch.equal(masks[0][1], masks[1][0])
    assert torch.equal(masks[1][0], masks[1][2])
    assert torch.equal(masks[2], masks[3])
    assert not torch.equal(masks[4][0], masks[0][1])


def test_different_numbers_of_points_are_not_padded(segmenter: SAM2Segmenter) -> None:
    point = prompt(3, SQUARE, points=[[[20.0, 20.0]]], labels=[[1]])
    with calls(segmenter.model.prompt_encoder) as prompted:
        segmenter(video(), [prompt(3, SQUARE), point, prompt(5, WIDE)], [3, 5])
    assert prompted[:2] == [2, 1]


def test_a_bank_keeps_what_is_read() -> None:
    bank = MemoryBank(torch.zeros(1, 4, 2), torch.zeros(4, 3), num_memories=2, num_pointers=3)
    for age in range(1, 6):
        bank.append(torch.full((1, 4, 2), float(age)), torch.full((4, 3), float(age)))
    bank.keep(1)
    assert [memory.shape for memory in (bank.memory, *bank.recent_memories)] == [(1, 1, 2)] * 3
    assert [memory[0, 0, 0].item() for memory in bank.recent_memories] == [4, 5]
    assert [pointer[0, 0].item() for pointer in bank.recent_pointers] == [3, 4, 5]
    assert bank.pointer.shape == (1, 3)
    assert bank.steps == 6


@pytest.mark.gpu
def test_cuda(release: tuple[SAM2Segmenter, Logits]) -> None:
    segmenter, expected = release
    try:
        ours = in_lock_step(segmenter.to("cuda"), video(), draw_prompts(16))
    finally:
        segmenter.to("cpu")
    assert {logits.device.type for logits in ours.values()} == {"cuda"}
    agree = torch.stack([((ours[place].cpu() > 0) == (expected[place] > 0)).float().mean() for place in expected])
    assert agree.mean() > 0.99
