"""Tokens are drawn from the distribution that was asked for, by noise that depends on nothing else."""

import pytest
import torch

from models.reasoners import Sampling
from models.reasoners.sampling import TokenSampler

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 5.0])
NOTHING = torch.tensor([], dtype=torch.long)


def draw(count: int, suppress: torch.Tensor = NOTHING, **settings: float) -> torch.Tensor:
    """Draw one token for each of many members of a group."""
    sampling = Sampling(max_completion_length=2, **{"temperature": 1.0, **settings})
    sampler = TokenSampler(sampling, ["video/0"] * count, list(range(count)), suppress)
    return sampler(LOGITS.expand(count, -1), 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies_are_the_probabilities(temperature):
    drawn = draw(20_000, temperature=temperature)
    frequencies = torch.bincount(drawn, minlength=5) / 20_000
    # The standard error of a frequency is at most sqrt(0.25 / 20000) = 0.0035.
    assert torch.allclose(frequencies, (LOGITS / temperature).softmax(0), atol=0.015)


def test_suppressed_tokens_are_never_drawn():
    drawn = draw(5_000, suppress=torch.tensor([4, 1]))
    assert set(drawn.tolist()) == {0, 2, 3}
    assert draw(1, suppress=torch.tensor([4]), temperature=0.0).tolist() == [0]


def test_top_k_keeps_the_likeliest():
    assert set(draw(5_000, temperature=3.0, top_k=2).tolist()) == {4, 0}
    assert set(draw(5_000, temperature=3.0, top_k=99).tolist()) == {0, 1, 2, 3, 4}


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    # At temperature 3 the probabilities are 0.53, 0.20, 0.14, 0.10, 0.07 of tokens 4, 0, 1, 2, 3.
    probabilities = (LOGITS / 3).softmax(0).sort(descending=True).values.cumsum(0)
    for size, kept in enumerate(({4}, {4, 0}, {4, 0, 1}), start=1):
        threshold = float(probabilities[size - 1]) - 1e-4
        assert set(draw(5_000, temperature=3.0, top_p=threshold).tolist()) == kept


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}], ids=["seed", "step"])
def test_noise_changes_with_seed_and_step_only(change):
    assert torch.equal(draw(100, temperature=3.0), draw(100, temperature=3.0))
    assert not torch.equal(draw(100, temperature=3.0), draw(100, temperature=3.0, **change))


def test_a_row_does_not_depend_on_the_others():
    sampling = Sampling(max_completion_length=4, temperature=3.0)
    together = TokenSampler(sampling, ["a", "b", "b"], [0, 0, 1], NOTHING)
    for row, (name, member) in enumerate((("a", 0), ("b", 0), ("b", 1))):
        alone = TokenSampler(sampling, [name], [member], NOTHING)
        for position in range(4):
            assert together(LOGITS.expand(3, -1), position)[row] == alone(LOGITS[None], position)[0]
    assert len({tuple(noise.tolist()) for noise in together.noise}) == 3


def test_rows_that_are_left_draw_as_if_all_were_there():
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    draw = TokenSampler(Sampling(8, temperature=1.0), ["a"] * 5, list(range(5)), torch.tensor([], dtype=torch.long))
    left = torch.tensor([0, 3, 4])
    everyone = draw(logits, 2)
    assert len(set(everyone.tolist())) > 2
    assert torch.equal(draw(logits[left], 2, left), everyone[left])
    assert not torch.equal(draw(logits[left], 2, torch.tensor([1, 2, 0])), everyone[left])
