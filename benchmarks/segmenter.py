"""How long does it take to segment a video for a group of answers, against one inference session per answer?

    python benchmarks/segmenter.py --json segmenter.json

Every answer prompts another box on another frame, and masks of all frames are wanted. Contestants:

- ``ours``: ``SAM2Segmenter``; frames are encoded once, objects move in lock-step.
- ``per_prompt``: transformers alone, one ``Sam2VideoInferenceSession`` per answer. Each encodes the frames, keeps their
  features, and tracks forward and backward.
- ``shared_features``: one session per answer and direction, over features that were encoded once: ``lock_step=False``.

They take turns within each round; seconds are medians over the rounds, of the processor's time on a CPU and of the
clock's on a GPU. Nothing is a result unless all masks agree, up to the bound in the setting, and ours encoded every
frame once. The sweeps over prompts and over frames are fitted with a line: ``seconds = start + slope * count``.

The network has random weights. ``--device cpu``: a small one of 256 x 256 pixels, on one thread. ``--device cuda``:
SAM 2.1 hiera-L at 1024 x 1024. How much sharing can save depends on how long a frame takes to encode (``encode_s``) and
an object to follow: both are a network's own.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import command_line, finish, show
from benchmarks.measuring import interleaved, processor
from benchmarks.random_models import SAM2_HIERA_LARGE, SAM2_SMALL
from models.segmenters import Prompt, SAM2Segmenter

PEER = "per_prompt"
NETWORKS = {"small": SAM2_SMALL, "hiera_large": SAM2_HIERA_LARGE}
GROUP = 8
#: most that logits may differ, in parts of the largest: sums in another order, and memories in bfloat16 that follow
BOUNDS = {"float32": 1e-4, "bfloat16": 0.1}


# --- what is compared --------------------------------------------------------------------------------------------


def build(network: str, device: str, dtype: str) -> SAM2Segmenter:
    """Return a segmenter whose objects are always there: an absent one would hide how masks differ."""
    segmenter = SAM2Segmenter(config=NETWORKS[network], dtype=dtype).to(device)  # type: ignore[arg-type]
    segmenter.model.mask_decoder.pred_obj_score_head.proj_out.bias.data += 10
    return segmenter


def video_of(num_frames: int) -> Tensor:
    """Return noise, ``uint8 (T, 3, 240, 320)``."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_frames, 3, 240, 320), generator=generator, dtype=torch.uint8)


def prompts_of(count: int, num_frames: int) -> list[Prompt]:
    """Return prompts of one box each, on frames all over the video."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([200.0, 120.0])
    boxes = torch.cat([corners, corners + 20 + 80 * torch.rand(count, 2, generator=generator)], 1)
    return [Prompt(index * num_frames // count, box[None]) for index, box in enumerate(boxes)]


def per_prompt(segmenter: SAM2Segmenter, frames: Tensor, prompts: Sequence[Prompt]) -> list[dict[int, Tensor]]:
    """Return mask logits by frame, from one session of transformers per prompt.

    Between the directions the session forgets what it has tracked, but not the features.
    """
    tracked = []
    for prompt in prompts:
        session = segmenter.processor.init_video_session(
            video=frames,
            inference_device=segmenter.device,
            dtype=segmenter.dtype,
            max_vision_features_cache_size=len(frames),
        )
        logits: dict[int, Tensor] = {}
        for reverse in (False, True):
            session.reset_tracking_data()
            segmenter.processor.add_inputs_to_inference_session(
                session, frame_idx=prompt.frame, obj_ids=list(range(len(prompt.boxes))), input_boxes=prompt.boxes[None]
            )
            steps = segmenter.model.propagate_in_video_iterator(session, prompt.frame, reverse=reverse)
            logits |= {step.frame_idx: step.pred_masks for step in steps}
        tracked.append(logits)
    return tracked


def masks_per_prompt(segmenter: SAM2Segmenter, frames: Tensor, prompts: Sequence[Prompt]) -> list[Tensor]:
    """Return what a segmenter does, from one session of transformers per prompt."""
    sizes = [list(frames.shape[-2:])] * len(frames)
    masks = []
    for logits in per_prompt(segmenter, frames, prompts):
        planes = [logits[time].float() for time in range(len(frames))]
        masks.append(
            torch.stack(segmenter.processor.post_process_masks(planes, sizes)).squeeze(2).transpose(0, 1).cpu()
        )
    return masks


def largest_difference(segmenter: SAM2Segmenter, frames: Tensor, prompts: Sequence[Prompt]) -> float:
    """Return how far logits are from those of sessions, in parts of the largest."""
    expected = per_prompt(segmenter, frames, prompts)
    largest = max(logits.abs().max().item() for tracked in expected for logits in tracked.values())
    differences, places = [], set()
    with torch.no_grad():
        encoded = segmenter.encode(frames)
        for rows, logits in segmenter.track_all(encoded, prompts, range(len(frames))):
            places |= set(rows)
            theirs = torch.stack([expected[index][time][row] for index, row, time in rows])
            differences.append((logits - theirs).abs().max().item())
    if len(places) != sum(len(prompt.boxes) for prompt in prompts) * len(frames):
        raise ValueError(f"Expected masks of {len(prompts)} prompts on {len(frames)} frames, but got {len(places)}")
    return max(differences) / largest


@contextmanager
def encoded_frames(encoder: nn.Module) -> Iterator[list[int]]:
    """Count the frames of every call of an image encoder."""
    sizes: list[int] = []
    handle = encoder.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    yield sizes
    handle.remove()


# --- the measurement ---------------------------------------------------------------------------------------------


def medians(calls: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Return the median seconds of each call."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    return {f"{name}_s": seconds for name, seconds in interleaved(calls, rounds, device, clock).items()}


def measure(segmenter: SAM2Segmenter, count: int, num_frames: int, rounds: int, bound: float | None) -> dict[str, Any]:
    """Return the row of a group.

    Args:
        segmenter: ours; all contestants use its network.
        count: prompts in the group.
        num_frames: in the video.
        rounds: of measurements.
        bound: most that logits may differ; None leaves the others out.

    Raises:
        ValueError: if masks differ by more, or ours encoded a frame twice.
    """
    frames, prompts = video_of(num_frames), prompts_of(count, num_frames)
    with encoded_frames(segmenter.model.vision_encoder) as encoded:
        segmenter(frames, prompts, range(num_frames))
    if sum(encoded) != num_frames:
        raise ValueError(f"Expected ours to encode {num_frames} frames for {count} prompts, but got {sum(encoded)}")
    row: dict[str, Any] = {"prompts": count, "frames": num_frames, "encoded_frames": sum(encoded)}
    calls: dict[str, Callable[[], object]] = {"ours": lambda: segmenter(frames, prompts, range(num_frames))}
    if bound is None:
        return row | medians(calls, rounds, segmenter.device.type)
    with encoded_frames(segmenter.model.vision_encoder) as encoded:
        difference = largest_difference(segmenter, frames, prompts)
    if difference > bound:
        raise ValueError(
            f"Expected the logits of sessions up to {bound} of the largest for {count} prompts on {num_frames} frames, "
            f"but got {difference:.1e}"
        )
    shared = in_sessions(segmenter)
    calls["per_prompt"] = lambda: masks_per_prompt(segmenter, frames, prompts)
    calls["shared_features"] = lambda: shared(frames, prompts, range(num_frames))
    calls["encode"] = lambda: encode(segmenter, frames)
    row |= {"difference": difference, "per_prompt_encoded_frames": sum(encoded) - num_frames}
    row |= medians(calls, rounds, segmenter.device.type)
    return row | {f"{peer}_ratio": row[f"{peer}_s"] / row["ours_s"] for peer in (PEER, "shared_features")}


def in_sessions(segmenter: SAM2Segmenter) -> SAM2Segmenter:
    """Return a segmenter with the same network that does without lock-step."""
    shared = copy(segmenter)
    shared.lock_step = False
    return shared


def encode(segmenter: SAM2Segmenter, frames: Tensor) -> None:
    """Run the image encoder alone."""
    with torch.no_grad():
        segmenter.encode(frames)


def line(rows: Sequence[dict[str, Any]], over: str) -> dict[str, Any]:
    """Return the line through a sweep, and how much of its variance is explained."""
    counts, seconds = (np.array([row[name] for row in rows], float) for name in (over, "ours_s"))
    slope, start = np.polyfit(counts, seconds, 1)
    rest = seconds - start - slope * counts
    return {
        "line_over": over,
        "start_s": float(start),
        "slope_s": float(slope),
        "r2": float(1 - rest.var() / seconds.var()),
    }


def rows_of(segmenter: SAM2Segmenter, arguments: argparse.Namespace, bound: float) -> Iterator[dict[str, Any]]:
    """Yield the groups against the others, then the sweeps."""
    for num_frames in arguments.frames:
        yield {"what": "group"} | measure(segmenter, arguments.prompts, num_frames, arguments.rounds, bound)
    cases = {
        "prompts": [(count, arguments.frames[0]) for count in arguments.sweep_prompts],
        "frames": [(arguments.prompts, num_frames) for num_frames in arguments.sweep_frames],
    }
    for over, pairs in cases.items():
        swept = []
        for count, num_frames in pairs:
            swept.append(measure(segmenter, count, num_frames, arguments.rounds, None))
            yield {"what": f"over {over}"} | swept[-1]
        yield {"what": "line"} | line(swept, over)


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Measure, print rows and ratios, and write JSON.

    Args:
        words: words of the command line; by default those of the process.

    Returns:
        What is written; the ratio is the smaller one of the groups.
    """
    arguments = parse(words)
    network = "small" if arguments.device == "cpu" else "hiera_large"
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    segmenter = build(network, arguments.device, arguments.dtype)
    bound = BOUNDS[arguments.dtype]
    rows = show(rows_of(segmenter, arguments, bound))
    groups = [row for row in rows if row["what"] == "group"]
    for row in groups:
        print(f"time, {PEER} over ours, {row['prompts']} prompts, {row['frames']} frames: {row[f'{PEER}_ratio']:.2f}")
    setting = {
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "processor": processor(arguments.device),
        "threads": torch.get_num_threads(),
        "network": network,
        "dtype": arguments.dtype,
        "rounds": arguments.rounds,
        "track_batch_size": segmenter.track_batch_size,
        "bound": bound,
    }
    ratio = {PEER: min(row[f"{PEER}_ratio"] for row in groups)}
    return finish(arguments.json, "segmenter", setting, ratio, rows)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = command_line(__doc__, device="the small network on one thread, or hiera-L")
    parser.add_argument("--dtype", choices=BOUNDS, default="float32")
    parser.add_argument("--prompts", type=int, default=GROUP, help="in a group")
    parser.add_argument("--frames", type=int, nargs="+", default=[6, 24], help="of the groups")
    parser.add_argument(
        "--sweep_prompts", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="on the first of --frames"
    )
    parser.add_argument("--sweep_frames", type=int, nargs="+", default=[6, 12, 24, 48])
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
