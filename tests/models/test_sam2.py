"""SAM 2 on random weights: one encoding, one propagation per distinct prompt, and the numbers of plain transformers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonargparse
import pytest
import torch
import yaml
from torch import Tensor, nn

from models.segmenters import SAM2Segmenter
from models.segmenters.base import Prompt, Segmenter
from tests.models.contract import CHECKS, check_boxes_without_pixels

CONFIG = Path(__file__).parents[2] / "configs" / "demo" / "sam2_tiny.yaml"
ARGUMENTS = yaml.safe_load(CONFIG.read_text())["init_args"]
T, H, W = 8, 48, 64
EVERY = list(range(T))
SQUARE = [10.0, 8.0, 30.0, 28.0]
WIDE = [5.0, 20.0, 60.0, 47.0]
SMALL = [40.5, 2.25, 50.0, 12.0]
NOTHING = [0.0, 0.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randint(0, 256, (T, 3, H, W), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def segmenter() -> SAM2Segmenter:
    return SAM2Segmenter(**ARGUMENTS)


@pytest.fixture(scope="module")
def sessions() -> SAM2Segmenter:
    """Every prompt by itself, so that no bit of a sum depends on what else is asked."""
    return SAM2Segmenter(**ARGUMENTS, lock_step=False)


@pytest.fixture(scope="module")
def released() -> SAM2Segmenter:
    return SAM2Segmenter(**ARGUMENTS, released=True)


def prompt(frame: int, *boxes: list[float], points: list | None = None, labels: list | None = None) -> Prompt:
    return Prompt(
        frame,
        torch.tensor(boxes).reshape(-1, 4),
        None if points is None else torch.tensor(points),
        None if labels is None else torch.tensor(labels),
    )


PROMPTS = {
    "middle": prompt(3, SQUARE, WIDE),
    "first": prompt(0, SQUARE),
    "last": prompt(T - 1, WIDE, SMALL, SQUARE),
    "point": prompt(4, SQUARE, points=[[[20.0, 20.0]]], labels=[[1]]),
    "points": prompt(2, WIDE, SMALL, points=[[[20, 40.5], [1, 1]], [[45, 5], [60, 40]]], labels=[[1, 0], [1, 0]]),
}


@contextmanager
def calls(module: nn.Module) -> Iterator[list[int]]:
    """Batch size of every call of a module."""
    sizes: list[int] = []

    def record(module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        sizes.append(len(args[0]) if args else len(next(iter(kwargs.values()))))

    handle = module.register_forward_hook(record, with_kwargs=True)
    yield sizes
    handle.remove()


def plain(segmenter: SAM2Segmenter, frames: Tensor, asked: Prompt, one_session: bool) -> dict[int, Tensor]:
    """Logits by frame, from transformers alone: the pixels in a session, the features computed when they are needed."""
    logits, session = {}, None
    for reverse in (False, True):
        if session is None or not one_session:
            session = segmenter.processor.init_video_session(video=frames, dtype=segmenter.dtype)
            segmenter.processor.add_inputs_to_inference_session(
                session,
                frame_idx=asked.frame,
                obj_ids=[7 + index for index in range(len(asked.boxes))],
                input_boxes=asked.boxes[None],
                input_points=None if asked.points is None else asked.points[None],
                input_labels=None if asked.labels is None else asked.labels[None],
            )
        outputs = segmenter.model.propagate_in_video_iterator(session, asked.frame, reverse=reverse)
        logits |= {output.frame_idx: output.pred_masks for output in outputs}
    return logits


def plain_masks(segmenter: SAM2Segmenter, frames: Tensor, asked: Prompt, one_session: bool = False) -> Tensor:
    logits = plain(segmenter, frames, asked, one_session)
    planes = segmenter.processor.post_process_masks([logits[time] for time in EVERY], [[H, W]] * T)
    return torch.stack(planes).squeeze(2).transpose(0, 1)


@pytest.mark.parametrize("check", CHECKS)
def test_contract(sessions: SAM2Segmenter, check: Callable[[Segmenter], None]) -> None:
    check(sessions)


@pytest.mark.parametrize("check", [check for check in CHECKS if check is not check_boxes_without_pixels])
def test_contract_of_released(released: SAM2Segmenter, check: Callable[[Segmenter], None]) -> None:
    check(released)


def test_config_builds_the_tiny_model() -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--segmenter", type=Segmenter, enable_path=True)
    built = parser.instantiate_classes(parser.parse_args(["--segmenter", str(CONFIG)])).segmenter
    assert isinstance(built, SAM2Segmenter)
    parameters = list(built.model.parameters())
    assert 1_000_000 < sum(parameter.numel() for parameter in parameters) < 2_000_000
    assert not built.model.training
    assert not any(parameter.requires_grad for parameter in parameters)


def test_random_weights_depend_on_the_seed_alone(segmenter: SAM2Segmenter) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    same = SAM2Segmenter(**ARGUMENTS).model.state_dict()
    other = SAM2Segmenter(**ARGUMENTS | {"seed": 2}).model.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(same[name], weight) for name, weight in segmenter.model.state_dict().items())
    assert any(not torch.equal(same[name], other[name]) for name in same)


@pytest.mark.parametrize("asked", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("one_session", [False, True], ids=["default", "released"])
def test_equals_plain_transformers(
    sessions: SAM2Segmenter, released: SAM2Segmenter, frames: Tensor, asked: Prompt, one_session: bool
) -> None:
    ours = released if one_session else sessions
    expected = plain_masks(sessions, frames, asked, one_session)
    assert 0.05 < expected.float().mean() < 0.95
    assert torch.equal(ours(frames, [asked], EVERY)[0], expected)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_logits_equal_plain_transformers(segmenter: SAM2Segmenter, frames: Tensor, batch_size: int) -> None:
    asked = PROMPTS["points"]
    expected = plain(segmenter, frames, asked, one_session=False)
    ours = SAM2Segmenter(**ARGUMENTS, encode_batch_size=batch_size)
    with torch.no_grad():
        logits = ours.track(ours.encode(frames), asked, EVERY)
    assert sorted(logits) == EVERY
    assert all(torch.equal(logits[time], expected[time]) for time in EVERY)


def test_directions_share_nothing_unless_released(
    segmenter: SAM2Segmenter, released: SAM2Segmenter, frames: Tensor
) -> None:
    ours, theirs = (one(frames, [PROMPTS["middle"]], EVERY)[0] for one in (segmenter, released))
    assert torch.equal(ours[:, 3:], theirs[:, 3:])
    assert all(not torch.equal(ours[:, time], theirs[:, time]) for time in range(2))
    # Without a frame behind the prompt there is nothing to differ in.
    assert torch.equal(*(one(frames, [PROMPTS["first"]], EVERY)[0] for one in (segmenter, released)))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_frames_are_encoded_once_for_all_prompts(frames: Tensor, batch_size: int) -> None:
    segmenter = SAM2Segmenter(**ARGUMENTS, encode_batch_size=batch_size)
    with calls(segmenter.model.vision_encoder) as sizes:
        segmenter(frames, list(PROMPTS.values()), EVERY)
    assert sum(sizes) == T
    assert max(sizes) == batch_size
    assert len(sizes) == -(-T // batch_size)


def test_identical_prompts_run_once(segmenter: SAM2Segmenter, frames: Tensor) -> None:
    alike = [prompt(3, SQUARE, WIDE) for _ in range(3)]
    others = [prompt(3, WIDE, SQUARE), prompt(2, SQUARE, WIDE), prompt(3, SQUARE)]
    with calls(segmenter.model.mask_decoder) as once:
        masks = segmenter(frames, [alike[0], *others], EVERY)
    with calls(segmenter.model.mask_decoder) as again:
        repeated = segmenter(frames, [alike[0], others[0], alike[1], *others[1:], alike[2]], EVERY)
    assert len(again) == len(once)
    for index, position in enumerate([0, 1, 0, 2, 3, 0]):
        assert torch.equal(repeated[index], masks[position])
    assert len({mask.float().sum().item() for mask in masks[:3]}) > 1


def test_prompts_do_not_influence_each_other(sessions: SAM2Segmenter, frames: Tensor) -> None:
    together = sessions(frames, list(PROMPTS.values()), EVERY)
    assert all(
        torch.equal(masks, sessions(frames, [alone], EVERY)[0])
        for masks, alone in zip(together, PROMPTS.values(), strict=True)
    )


def test_planes_follow_the_order_of_boxes(segmenter: SAM2Segmenter, frames: Tensor) -> None:
    masks, swapped = segmenter(frames, [prompt(3, SQUARE, WIDE), prompt(3, WIDE, SQUARE)], EVERY)
    assert torch.equal(masks, swapped.flip(0))
    assert not torch.equal(masks, swapped)


def test_points_change_the_masks(segmenter: SAM2Segmenter, frames: Tensor) -> None:
    boxed, off, on, none = segmenter(
        frames,
        [
            prompt(3, WIDE),
            prompt(3, WIDE, points=[[[20.0, 40.0]]], labels=[[0]]),
            prompt(3, WIDE, points=[[[20.0, 40.0]]], labels=[[1]]),
            Prompt(3, torch.tensor([WIDE]), torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long)),
        ],
        EVERY,
    )
    assert not torch.equal(boxed, on)
    assert not torch.equal(on, off)
    assert torch.equal(boxed, none)


@pytest.mark.parametrize(
    ("wanted", "visited", "visited_released"),
    [
        ([3], 1, 1),
        ([7, 3], 5, 5),
        ([4, 5, 4], 3, 3),
        ([1], 3, 7),  # 3, 2, 1 in a fresh session; released 3..7 first, then 2, 1
        ([2, 6], 6, 6),  # 3..6 and again 3, 2
        ([], 0, 0),
    ],
    ids=["keyframe", "unsorted", "repeated", "behind", "both", "none"],
)
def test_segment_frames_only_limit_the_work(
    sessions: SAM2Segmenter,
    released: SAM2Segmenter,
    frames: Tensor,
    wanted: list[int],
    visited: int,
    visited_released: int,
) -> None:
    asked = prompt(3, SQUARE)
    for one, expected in ((sessions, visited), (released, visited_released)):
        everything = one(frames, [asked], EVERY)[0]
        with calls(one.model.mask_decoder) as decoded:
            masks = one(frames, [asked], wanted)[0]
        assert torch.equal(masks, everything[:, wanted])
        assert len(decoded) == expected


@pytest.mark.parametrize(
    "box",
    [
        NOTHING,
        [20.0, 10.0, 20.0, 30.0],
        [30.0, 28.0, 10.0, 8.0],
        [-30.0, -20.0, -5.0, -1.0],
        [70.0, 5.0, 90.0, 20.0],
        [20.6, 10.0, 21.4, 30.0],
        [3e38, 3e38, -3e38, -3e38],
        [0.0, float("nan"), 9.0, 9.0],
        [-float("inf"), 0.0, float("inf"), 9.0],
    ],
    ids=["zero", "line", "inverted", "negative", "outside", "between_centres", "huge", "nan", "infinite"],
)
def test_a_box_without_pixels_gives_an_empty_plane(
    segmenter: SAM2Segmenter, released: SAM2Segmenter, frames: Tensor, box: list[float]
) -> None:
    masks = segmenter(frames, [prompt(3, SQUARE, box, WIDE)], EVERY)[0]
    assert not masks[1].any()
    assert torch.equal(masks[[0, 2]], segmenter(frames, [prompt(3, SQUARE, WIDE)], EVERY)[0])
    assert released(frames, [prompt(3, SQUARE, box, WIDE)], EVERY)[0].shape == (3, T, H, W)


def test_released_prompts_boxes_as_they_are(released: SAM2Segmenter, frames: Tensor) -> None:
    asked = prompt(3, NOTHING, [-5.0, 8.0, 30.0, 60.0])
    masks = released(frames, [asked], EVERY)[0]
    assert torch.equal(masks, plain_masks(released, frames, asked, one_session=True))
    assert masks[0].any()


def test_boxes_are_clipped_to_the_frame(segmenter: SAM2Segmenter, frames: Tensor) -> None:
    over, inside = segmenter(frames, [prompt(3, [-9.0, 8.0, 1e30, 60.0]), prompt(3, [0.0, 8.0, W, H])], EVERY)
    assert torch.equal(over, inside)
    assert over.any()


def test_nothing_to_segment_needs_no_model(frames: Tensor) -> None:
    segmenter = SAM2Segmenter(pretrained="a/checkpoint-that-does-not-exist").to("meta")
    masks = segmenter(frames, [prompt(0), prompt(5, NOTHING)], [0, 1])
    assert [mask.shape for mask in masks] == [(0, 2, H, W), (1, 2, H, W)]
    assert not masks[1].any()
    assert segmenter(frames, [], [0]) == []


def test_one_frame(segmenter: SAM2Segmenter, frames: Tensor) -> None:
    masks = segmenter(frames[:1], [prompt(0, SQUARE)], [0])[0]
    assert masks.shape == (1, 1, H, W)
    assert masks.dtype == torch.bool
    assert torch.equal(masks, segmenter(frames, [prompt(0, SQUARE)], [0])[0])


def test_a_saved_model_gives_equal_masks(segmenter: SAM2Segmenter, frames: Tensor, tmp_path: Path) -> None:
    segmenter.model.save_pretrained(tmp_path)
    segmenter.processor.save_pretrained(tmp_path)
    loaded = SAM2Segmenter(pretrained=str(tmp_path))
    for weight in loaded.model.parameters():
        # Where a weight lies in the file decides the last bit of sums over it, and memories round that up.
        weight.data = weight.data.clone()
    asked = list(PROMPTS.values())
    for ours, theirs in zip(segmenter(frames, asked, EVERY), loaded(frames, asked, EVERY), strict=True):
        assert torch.equal(ours, theirs)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_checkpoint_without_all_weights_is_refused(segmenter: SAM2Segmenter, tmp_path: Path) -> None:
    kept = {name: weight for name, weight in segmenter.model.state_dict().items() if "memory_encoder" not in name}
    segmenter.model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(ValueError, match=r"weights are missing, such as 'memory_encoder\."):
        SAM2Segmenter(pretrained=str(tmp_path)).model  # noqa: B018


def test_autocast_around_the_call_changes_nothing(segmenter: SAM2Segmenter, frames: Tensor) -> None:
    expected = segmenter(frames, [PROMPTS["middle"]], EVERY)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(segmenter(frames, [PROMPTS["middle"]], EVERY)[0], expected)


def test_bfloat16(frames: Tensor) -> None:
    segmenter = SAM2Segmenter(**ARGUMENTS, dtype="bfloat16", lock_step=False)
    masks = segmenter(frames, [PROMPTS["points"]], EVERY)[0]
    assert {parameter.dtype for parameter in segmenter.model.parameters()} == {torch.bfloat16}
    logits = plain(segmenter, frames, PROMPTS["points"], one_session=False)
    planes = segmenter.processor.post_process_masks([logits[time].float() for time in EVERY], [[H, W]] * T)
    assert torch.equal(masks, torch.stack(planes).squeeze(2).transpose(0, 1))


@pytest.mark.gpu
def test_cuda(frames: Tensor) -> None:
    segmenter = SAM2Segmenter(**ARGUMENTS).to("cuda")
    masks = segmenter(frames.cuda(), [PROMPTS["points"]], EVERY)[0]
    assert masks.device.type == "cpu"
    on_cpu = segmenter.to("cpu")(frames, [PROMPTS["points"]], EVERY)[0]
    assert (masks[:, 2] == on_cpu[:, 2]).float().mean() > 0.95


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        (prompt(8, SQUARE), r"`frame` of `prompts\[1\]` to lie in \[0, 8\), but got 8"),
        (prompt(-1, SQUARE), "but got -1"),
        (Prompt(0, torch.zeros(4)), r"`boxes` of `prompts\[1\]` to be \(M, 4\), but got \(4,\)"),
        (prompt(0, SQUARE, points=[[[1.0, float("nan")]]], labels=[[1]]), "`points` .* finite"),
        (prompt(0, SQUARE, points=[[[1.0, 1.0]]]), "given together"),
        (prompt(0, SQUARE, WIDE, points=[[[1.0, 1.0]]], labels=[[1]]), r"\(M, P, 2\)"),
        (prompt(0, SQUARE, points=[[[1.0, 1.0]]], labels=[[1, 1]]), r"\(1, 1, 2\) and \(1, 2\)"),
    ],
)
def test_a_wrong_prompt_is_named(frames: Tensor, asked: Prompt, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SAM2Segmenter(**ARGUMENTS)(frames, [prompt(0, SQUARE), asked], [0])


@pytest.mark.parametrize(
    ("video", "wanted", "error", "match"),
    [
        (torch.zeros(2, 3, 8, 8), [0], TypeError, "uint8, but got torch.float32"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), [0], ValueError, r"\(T, 3, H, W\)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), [], ValueError, "not empty"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [0, 2, -1], ValueError, r"\[0, 2\), but got \[2, -1\]"),
    ],
)
def test_a_wrong_video_is_named(video: Tensor, wanted: list[int], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        SAM2Segmenter(**ARGUMENTS)(video, [], wanted)


@pytest.mark.parametrize(
    ("argument", "value"), [("encode_batch_size", 0), ("track_batch_size", 0), ("dtype", "float16")]
)
def test_wrong_arguments(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"Expected `{argument}` to be .*, but got '?{value}"):
        SAM2Segmenter(**{argument: value})
