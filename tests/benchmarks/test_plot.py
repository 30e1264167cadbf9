"""The picture of the benchmarks: drawn from their JSON, the same bytes again, every ratio and sweep in it."""

import json

import pytest

from benchmarks.plot import SWEEPS, goal_of, main


def results():
    rows = [
        {"what": f"sweep over {name}", name: value, "ratio": 1.5 * value, "token_bound": 1.2 * value}
        for name in SWEEPS
        for value in (2, 4, 8)
    ]
    yield {"name": "grpo_update", "ratio": {"trl": 6.12, "plain": 6.5}, "rows": [{"what": "ours"}, *rows]}
    yield {"name": "rollout", "ratio": {"repeated_prompts": 3.34}, "rows": []}


def test_picture(tmp_path):
    files = []
    for result in results():
        files.append(tmp_path / f"{result['name']}.json")
        files[-1].write_text(json.dumps(result))
    for name in ("one.svg", "two.svg"):
        main([*map(str, files), "--out", str(tmp_path / name)])
    picture = (tmp_path / "one.svg").read_bytes()
    assert picture == (tmp_path / "two.svg").read_bytes()
    assert len(picture) < 150_000
    drawn = picture.decode()
    for text in ("update: trl", "6.1", "rollout: repeated prompts", "3.3", *SWEEPS.values()):
        assert f"<!-- {text} -->" in drawn or f"<!--  {text} -->" in drawn


@pytest.mark.parametrize(
    ("name", "peer", "goal"),
    [
        ("grpo_update", "trl", 5.0),
        ("grpo_step", "trl", 3.0),
        ("grpo_update", "plain", None),
        ("segmenter", "per_prompt_24", 2.5),
    ],
)
def test_goals(name, peer, goal):
    assert goal_of(name, peer) == goal
