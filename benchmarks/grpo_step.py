"""How long does a whole step of GRPO take, from a video to moved weights, against TRL's trainer?

    python benchmarks/grpo_step.py trl --json grpo_step.json

One prompt a step: a group is written, segmented, rewarded and learned from. Ours is ``GRPOModule`` in Lightning's
trainer, the peer ``GRPOTrainer`` with its own ``generate``, on the same model, and a reward function that runs one
session of transformers' SAM 2 for each completion. Nobody's answers end early, so everyone writes as many tokens; a
keyframe and a box are read into whatever was written. Both segmenters give the same masks, or there is no result; that
the updates are equal is said by ``benchmarks/grpo_update.py``. Contestants take turns, seconds are medians over rounds
after one to warm up; ``other`` is what lies between the phases.
"""

import argparse
import statistics
import sys
from typing import Any

import torch

from benchmarks.harness import command_line, finish, show
from benchmarks.random_models import small_sam2
from benchmarks.setting import Setting, described, model_folder
from benchmarks.steps import PHASES, OurStep, TRLStep, expect_equal_masks

PEER = "trl"


def measure(contestants: dict[str, Any], length: int, rounds: int) -> list[dict[str, Any]]:
    """Let everyone take steps in turn, and return the medians of each: a row of seconds, by phase.

    Args:
        contestants: by name.
        length: tokens of every answer.
        rounds: steps of each, after one that does not count.

    Raises:
        ValueError: if an answer has not that length.
    """
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, contestant in contestants.items():
            taken[name].append(contestant.step())
            if contestant.mean_length != length:
                raise ValueError(f"Expected answers of {length} tokens from {name}, but got {contestant.mean_length}")
    rows = []
    for name, steps in taken.items():
        row = {phase: statistics.median(step[phase] for step in steps[1:]) for phase in ("step", *PHASES)}
        rows.append({"what": name, **row, "other": row["step"] - sum(row[phase] for phase in PHASES)})
    return rows


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Measure, print rows and the ratio, and write JSON.

    Args:
        words: words of the command line; by default those of the process.

    Returns:
        What is written.
    """
    arguments = parse(words)
    torch.set_num_threads(arguments.threads)
    setting = Setting.of(arguments, gpu_length=350)
    with model_folder(setting) as folder:
        contestants = {"ours": OurStep(setting, folder), PEER: TRLStep(setting, folder)}
        share = expect_equal_masks(setting, small_sam2().to(setting.device))
        rows = show(measure(contestants, setting.length, arguments.rounds))
    seconds = {row["what"]: row["step"] for row in rows}
    ratio = {PEER: seconds[PEER] / seconds["ours"]}
    print(f"time of a step, {PEER} over ours: {ratio[PEER]:.2f}")
    more = {"rounds": arguments.rounds, "differing_pixels": share}
    return finish(arguments.json, "grpo_step", described(setting, **more), ratio, rows)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = command_line(__doc__, device="cuda measures Qwen2.5-VL-3B with random weights")
    parser.add_argument("peer", nargs="?", choices=[PEER], default=PEER, help="whom to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    Setting.add_options(parser)
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
