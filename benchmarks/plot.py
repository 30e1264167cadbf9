"""Draw the ratios of several benchmarks with their goals, and how the update of a group grows.

python benchmarks/plot.py grpo_update.json rollout.json segmenter.json grpo_step.json --out assets/benchmarks.svg
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

#: Ratios to reach, by benchmark and the beginning of a ratio's name.
GOALS = {
    ("grpo_update", "trl"): 5.0,
    ("rollout", "repeated_prompts"): 2.5,
    ("rollout", "num_return_sequences"): 1.4,
    ("segmenter", "per_prompt"): 2.5,
    ("grpo_step", "trl"): 3.0,
}
#: What is varied, and what it is called.
SWEEPS = {"frames": "frames in the prompt", "group_size": "answers G", "length": "tokens an answer R"}
OURS, BOUND, GOAL = "#2a6f97", "#bc4749", "#333333"


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Write the picture.

    Args:
        results: what benchmarks wrote; one of them may be ``grpo_update``, with sweeps.
        path: of an SVG file, of the same bytes for the same results.
    """
    figure = Figure(figsize=(10, 3.6))  # with a layout that is solved for, the last bits would differ
    FigureCanvasSVG(figure)
    bars, *sweeps = figure.subplots(1, 4, width_ratios=[1.7, 1, 1, 1])
    figure.subplots_adjust(left=0.2, right=0.98, bottom=0.15, top=0.97, wspace=0.3)
    draw_ratios(bars, results)
    rows = [row for result in results if result["name"] == "grpo_update" for row in result["rows"]]
    for axes, name in zip(sweeps, SWEEPS, strict=True):
        draw_sweep(axes, name, [row for row in rows if row["what"] == f"sweep over {name}"])
    sweeps[0].set_ylabel("update: times as fast as plain")
    sweeps[0].legend(fontsize=8, frameon=False)
    with rc_context({"svg.hashsalt": "thinkseg"}):
        figure.savefig(path, metadata={"Date": None})


def draw_ratios(axes: Axes, results: list[dict[str, Any]]) -> None:
    """Draw a bar for each ratio, and a mark where its goal is."""
    named = [(result["name"], peer, ratio) for result in results for peer, ratio in result["ratio"].items()]
    for place, (name, peer, ratio) in enumerate(named):
        axes.barh(place, ratio, color=OURS)
        axes.text(ratio, place, f" {ratio:.1f}", va="center", fontsize=8)
        goal = goal_of(name, peer)
        if goal is not None:
            axes.plot([goal, goal], [place - 0.45, place + 0.45], color=GOAL, linewidth=2)
    labels = [f"{name.removeprefix('grpo_')}: {peer.replace('_', ' ')}" for name, peer, _ in named]
    axes.set_yticks(range(len(named)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(ratio for _, _, ratio in named))
    axes.set_xlabel("times as fast as the peer (line: goal)")
    axes.spines[["top", "right"]].set_visible(False)


def goal_of(name: str, peer: str) -> float | None:
    """Return the goal of a ratio, None if it has none."""
    found = [goal for (benchmark, start), goal in GOALS.items() if benchmark == name and peer.startswith(start)]
    return found[0] if found else None


def draw_sweep(axes: Axes, name: str, rows: list[dict[str, Any]]) -> None:
    """Draw how many times as fast as plain ours is, beside the ratio of their tokens."""
    values = [row[name] for row in rows]
    axes.plot(values, [row["ratio"] for row in rows], "o-", color=OURS, label="measured")
    axes.plot(values, [row["token_bound"] for row in rows], "--", color=BOUND, label="ratio of tokens")
    axes.set_xlabel(SWEEPS[name])
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def main(words: list[str] | None = None) -> None:
    """Draw what benchmarks wrote.

    Args:
        words: words of the command line; by default those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="JSON files")
    parser.add_argument("--out", type=Path, required=True, help="SVG file to write")
    arguments = parser.parse_args(words)
    draw([json.loads(path.read_text()) for path in arguments.results], arguments.out)


if __name__ == "__main__":
    main(sys.argv[1:])
