"""How long do the log-probabilities of a group and their gradients take, against TRL and against our plain path?

    python benchmarks/grpo_update.py trl plain --json grpo_update.json
    python benchmarks/grpo_update.py plain --device cuda --json grpo_update_gpu.json

All contestants have the same weights, prompt, completions and advantages, and DAPO's loss without a KL term; losses
and gradients are equal, or there is no result. ``plain`` repeats the prompt for each answer; ``trl`` is
``GRPOTrainer``, its batch ready with all images as patches, while ours may still have to cut them. Contestants take
turns within each round, seconds are medians; those that take one answer at a time take one turn. Then the video, the
group and the answers are varied, to see that the cost grows as the cost model says (``benchmarks/flops.py``).
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.flops import update_flops
from benchmarks.harness import command_line, finish, show
from benchmarks.measuring import interleaved, peak_memory
from benchmarks.setting import Setting, described, model_folder
from benchmarks.updates import ONE_AT_A_TIME, Ours, contestants, expect_equal

PEERS = ("trl", "plain")
#: How the setting is varied, one thing at a time.
SWEEPS: dict[str, dict[str, tuple[int, ...]]] = {
    "cpu": {"frames": (3, 6, 12), "group_size": (2, 4, 8, 16), "length": (50, 100, 200, 400)},
    "cuda": {"frames": (2, 4, 6), "group_size": (2, 4, 8, 16), "length": (128, 256, 512, 1024)},
}
#: Lengths of answers that are measured, beside those of the sweep.
LENGTHS = {"cuda": (1024, 350)}
#: Dense bfloat16 operations per second.
PEAK = {"h100": 989e12, "h200": 989e12, "a100": 312e12}


def measure(setting: Setting, folder: Path, peers: list[str], rounds: int, peak: float) -> list[dict[str, Any]]:
    """Return a row per contestant: seconds, memory, tokens, and how far its gradients are from ours.

    Raises:
        ValueError: if they are not equal.
    """
    builders = contestants(setting, peers)
    # First, while nothing else is in memory.
    memory = {name: peak_memory(partial(build, folder), setting.device) for name, build in builders.items()}
    calls = {name: build(folder) for name, build in builders.items()}
    ours = calls["ours"]
    loss = ours()
    differences = {
        name: expect_equal(name, (loss, ours.model), (call(), call.model), setting.device)
        for name, call in calls.items()
        if name != "ours"
    }
    alone = {name: call for name, call in calls.items() if name.endswith(ONE_AT_A_TIME)}
    together = {name: call for name, call in calls.items() if name not in alone}
    seconds = interleaved(together, rounds, setting.device) | interleaved(alone, 1, setting.device)
    rows = [row_of(name, ours, seconds[name]) for name in calls]
    for row in rows:
        row |= {"difference": differences.get(row["what"], 0.0), "memory_mb": memory[row["what"]]}
        if setting.device == "cuda":
            row["mfu"] = 1e12 * row["tera_flops"] / row["seconds"] / peak
    return rows


def row_of(name: str, ours: Ours, seconds: float) -> dict[str, Any]:
    """Return how long a contestant takes, and how much it computes."""
    prompt, grid = prompt_of(ours)
    shared = name == "ours"
    answers = [max(ours.answers)] * len(ours.answers) if name == "trl" else ours.answers  # TRL pads
    return {
        "what": name,
        "seconds": seconds,
        "tokens": (1 if shared else len(answers)) * prompt + sum(answers),
        "tera_flops": update_flops(ours.model, prompt, ours.answers, grid, shared) / 1e12,
    }


def prompt_of(ours: Ours) -> tuple[int, list[list[int]]]:
    """Return the tokens of the prompt, and the patches of its images."""
    inputs = ours.setting.stock_inputs(ours.reasoner.processor)
    return inputs["input_ids"].shape[1], inputs["image_grid_thw"].tolist()


def sweep(setting: Setting, folder: Path, rounds: int, name: str, values: tuple[int, ...]) -> list[dict[str, Any]]:
    """Vary one thing: ours and plain side by side, and how ours grows."""
    rows: list[dict[str, Any]] = []
    for value in values:
        changed = setting.varied(**{name: value})
        # One answer at a time, for sixteen need much memory at once; on a CPU it is the faster way.
        plain = Ours(changed, folder, prefix_sharing=False, micro_batch_size=1)
        calls = {"ours": Ours(changed, folder), "plain": plain}
        found, expected = ((call(), call.model) for call in calls.values())
        expect_equal("plain", found, expected, setting.device)
        del found, expected
        seconds = interleaved(calls, rounds, setting.device)
        prompt, grid = prompt_of(calls["ours"])
        answered = sum(calls["ours"].answers)
        rows.append(
            {
                "what": f"sweep over {name}",
                name: value,
                "prompt": prompt,
                "ours_s": seconds["ours"],
                "plain_s": seconds["plain"],
                "ratio": seconds["plain"] / seconds["ours"],
                "token_bound": (changed.group_size * prompt + answered) / (prompt + answered),
                "tera_flops": update_flops(calls["ours"].model, prompt, calls["ours"].answers, grid, True) / 1e12,
            }
        )
    return show(rows) + show([fit(name, rows)])


def fit(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the straight line through our times, and what it is in the cost model: its slope at the same speed."""
    x = torch.tensor([[1.0, row[name]] for row in rows], dtype=torch.float64)
    seconds = torch.tensor([row["ours_s"] for row in rows], dtype=torch.float64)
    flops = torch.tensor([row["tera_flops"] for row in rows], dtype=torch.float64)
    line, model = (torch.linalg.lstsq(x, y[:, None]).solution[:, 0] for y in (seconds, flops))
    rest = seconds - x @ line
    return {
        "what": f"line over {name}",
        "intercept_s": float(line[0]),
        "slope_s": float(line[1]),
        "r2": float(1 - rest.square().sum() / (seconds - seconds.mean()).square().sum()),
        "model_slope_s": float(model[1] * seconds.sum() / flops.sum()),
    }


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Measure, print rows and ratios, and write JSON.

    Args:
        words: words of the command line; by default those of the process.

    Returns:
        What is written.
    """
    arguments = parse(words)
    torch.set_num_threads(arguments.threads)
    setting = Setting.of(arguments, gpu_length=LENGTHS["cuda"][0])
    ratio: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    with model_folder(setting) as folder:
        for length in LENGTHS.get(setting.device, (setting.length,)) if arguments.rounds else ():
            case = setting.varied(length=length)
            found = measure(case, folder, arguments.peers or list(PEERS), arguments.rounds, PEAK[arguments.gpu])
            rows += show({"length": length, **row} for row in found)
            for row in found:
                if row["what"] in PEERS:
                    key = row["what"] if length == setting.length else f"{row['what']}_{length}"
                    ratio[key] = row["seconds"] / found[0]["seconds"]
                    print(f"time, {row['what']} over ours, answers of {length} tokens: {ratio[key]:.2f}")
        if arguments.sweep_rounds:
            for name, values in SWEEPS[setting.device].items():
                rows += sweep(setting, folder, arguments.sweep_rounds, name, values)
    rounds = {"rounds": arguments.rounds, "sweep_rounds": arguments.sweep_rounds}
    return finish(arguments.json, "grpo_update", described(setting, **rounds), ratio, rows)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = command_line(__doc__, device="cuda measures Qwen2.5-VL-3B with random weights")
    parser.add_argument("peers", nargs="*", choices=[*PEERS, []], help="whom to compare with; by default everyone")
    parser.add_argument("--rounds", type=int, default=5, help="0 leaves the group out, for the sweeps alone")
    parser.add_argument("--sweep_rounds", type=int, default=3, help="0 leaves the sweeps out")
    parser.add_argument("--gpu", choices=sorted(PEAK), default="h200", help="whose peak is 100 %% of MFU")
    Setting.add_options(parser)
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
