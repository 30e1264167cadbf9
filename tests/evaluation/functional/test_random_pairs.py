"""10,000 random pairs of masks against the plain definition, counts and floats equal."""

import numpy as np
import pytest

from evaluation.functional import boundary_accuracy, boundary_counts, region_counts, region_similarity
from tests.evaluation.functional import plain


def check(generator, height, width, radius=None):
    """One pair, each mask of any kind and in any form, every third with void."""
    masks = [plain.random_mask(generator, height, width) for _ in range(3)]
    if generator.random() < 0.2:  # like most predictions: the target, a little moved
        masks[0] = np.roll(masks[1], generator.integers(-3, 4, 2), (0, 1))
    masks = masks[: generator.choice([2, 2, 3])]
    forms = generator.choice(list(plain.FORMS), len(masks))
    given = [plain.FORMS[form](mask[None]) for form, mask in zip(forms, masks, strict=True)]
    tolerance = {} if radius is None else {"tolerance": radius}
    expected = plain.counts(*masks, radius=radius)
    case = f"{height} x {width}, {forms}"
    got = [*region_counts(*given), *boundary_counts(*given, **tolerance)]
    assert [count.item() for count in got] == expected, case
    intersection, union, *boundary = expected
    assert region_similarity(*given).item() == (intersection / union if union else 1), case
    assert boundary_accuracy(*given, **tolerance).item() == plain.accuracy(*boundary), case


@pytest.mark.parametrize("seed", range(9))
def test_small(seed):
    generator = np.random.default_rng(seed)
    for _ in range(1000):
        check(generator, *generator.integers(1, 40, 2))


def test_across_words():
    """Rows on both sides of the borders between words, and reaches that the size would not give."""
    generator = np.random.default_rng(9)
    for _ in range(970):
        check(generator, generator.integers(50, 150), generator.integers(1, 60), int(generator.integers(1, 14)))


def test_large():
    generator = np.random.default_rng(10)
    for size in [(480, 854)] * 20 + [(720, 1280)] * 6 + [(1080, 1920)] * 4:
        check(generator, *size)
