"""How many tokens per second does the rollout of a group write, against plain transformers on the same weights?

    python benchmarks/rollout.py repeated_prompts num_return_sequences --json rollout.json

The peers are ``generate`` on a batch of G repeated prompts, as TRL does, and ``generate(num_return_sequences=G)`` on
one. Everyone samples at temperature 1 from the likeliest token alone, and never ends: each answer has exactly as many
tokens as asked for, and all tokens are equal, or there is no result. A video is new to whoever sees it, so that
nobody finds it encoded; ours starts from frames, the peers from patches. Contestants take turns within each round,
seconds are medians. What of ours is not decoding is measured by answers of one token.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import command_line, finish, show
from benchmarks.measuring import interleaved
from benchmarks.setting import Setting, described, model_folder
from models.reasoners import QwenVL, Sampling

PEERS = ("repeated_prompts", "num_return_sequences")
#: How the setting is varied, one thing at a time.
SWEEPS: dict[str, tuple[int, ...]] = {"group_size": (2, 4, 8, 16), "length": (32, 64, 128, 256)}


class Group:
    """One group to be answered, by ours and by plain transformers.

    Args:
        setting: the group.
        folder: the model.
    """

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.reasoner: QwenVL = setting.reasoner(folder).eval()
        # No answer ends, and the peers must not draw what ours never draws.
        self.reasoner.suppressed_tokens = torch.cat([self.reasoner.suppressed_tokens, self.reasoner.stop_tokens])
        self.chat = setting.chat(setting.sample())
        self.model, processor = setting.stock(folder)
        self.inputs = setting.stock_inputs(processor)

    def ours(self, length: int | None = None) -> Tensor:
        """Return the answers of ``QwenVL.generate``, ``int64 (G, R)``."""
        sampling = Sampling(length or self.setting.length, temperature=1.0, top_k=1)
        groups = self.reasoner.generate([self.setting.sample()], [self.chat], self.setting.group_size, sampling)
        return torch.tensor([completion.token_ids for completion in groups[0]])

    def repeated_prompts(self) -> Tensor:
        """Return the answers to a batch of G prompts, ``int64 (G, R)``."""
        size = self.setting.group_size
        inputs = {name: part.repeat(size, 1) for name, part in self.inputs.items()}
        return self._generate(inputs)

    def num_return_sequences(self) -> Tensor:
        """Return G answers to one prompt, ``int64 (G, R)``."""
        return self._generate(self.inputs, num_return_sequences=self.setting.group_size)

    def _generate(self, inputs: dict[str, Tensor], **options: Any) -> Tensor:
        rows: Tensor = self.model.generate(
            **{name: part.to(self.setting.device) for name, part in inputs.items()},
            max_new_tokens=self.setting.length,
            do_sample=True,
            temperature=1.0,
            top_k=1,
            top_p=1.0,
            suppress_tokens=self.reasoner.suppressed_tokens.tolist(),
            **options,
        )
        return rows[:, inputs["input_ids"].shape[1] :].cpu()


def expect_equal(answers: dict[str, Tensor]) -> None:
    """Compare what was written.

    Raises:
        ValueError: if any token of a peer differs from ours.
    """
    for name, tokens in answers.items():
        if not torch.equal(tokens, answers["ours"]):
            raise ValueError(
                f"Expected the tokens of {name} to be ours, {answers['ours'].tolist()}, but got {tokens.tolist()}"
            )


def measure(setting: Setting, folder: Path, peers: list[str], rounds: int) -> dict[str, Any]:
    """Return the row of a setting: seconds of everyone, tokens per second of ours, and ratios."""
    group = Group(setting, folder)
    calls: dict[str, Callable[[], Tensor]] = {"ours": group.ours} | {peer: getattr(group, peer) for peer in peers}
    expect_equal({name: call() for name, call in calls.items()})
    everything = calls | {"ours_prefill": lambda: group.ours(length=1)}
    seconds = interleaved(everything, rounds, setting.device)
    tokens = setting.group_size * setting.length
    return {
        "group_size": setting.group_size,
        "length": setting.length,
        "prompt": group.inputs["input_ids"].shape[1],
        **{f"{name}_s": value for name, value in seconds.items()},
        "ours_decode_s": seconds["ours"] - seconds["ours_prefill"],
        **{f"{name}_tokens_per_s": tokens / seconds[name] for name in calls},
        **{f"{peer}_over_ours": seconds[peer] / seconds["ours"] for peer in peers},
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
    peers = arguments.peers or list(PEERS)
    setting = Setting.of(arguments, gpu_length=256)
    with model_folder(setting) as folder:
        rows = show([{"what": "group", **measure(setting, folder, peers, arguments.rounds)}])
        ratio = {peer: rows[0][f"{peer}_over_ours"] for peer in peers}
        for peer, value in ratio.items():
            print(f"time, {peer} over ours: {value:.2f}")
        if arguments.sweep_rounds:
            for name, values in SWEEPS.items():
                for value in values:
                    row = measure(setting.varied(**{name: value}), folder, peers, arguments.sweep_rounds)
                    rows += show([{"what": f"sweep over {name}", **row}])
    rounds = {"rounds": arguments.rounds, "sweep_rounds": arguments.sweep_rounds}
    return finish(arguments.json, "rollout", described(setting, **rounds), ratio, rows)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = command_line(__doc__, device="cuda measures Qwen2.5-VL-3B with random weights")
    parser.add_argument("peers", nargs="*", choices=[*PEERS, []], help="whom to compare with; by default everyone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sweep_rounds", type=int, default=3, help="0 leaves the sweeps out")
    Setting.add_options(parser, length=64)
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
