import pytest

from evaluation.protocols import RefSAVProtocol
from tests.evaluation.protocols.cases import WIDTH, film, prediction, truth


def scored(pred, annotated, official=False):
    [scores] = RefSAVProtocol(official).score(pred, annotated, "long")
    return scores.row


def test_accuracy_is_the_share_of_right_pixels():
    assert scored(prediction(film((4, 16))), truth(film(12)))["A"] == (WIDTH - 8) / WIDTH


def test_official_overlaps_add_up_and_rows_are_rounded():
    annotated = truth(film(8), film((4, 13)))
    # four pixels have the value 2, six of thirteen are found
    row = scored(prediction(film(6)), annotated, official=True)
    assert row["A"] == (WIDTH - 7 - 2) / WIDTH
    assert row["J"] == pytest.approx(0.4615, abs=1e-12)
    ours = scored(prediction(film(6)), annotated)
    assert ours["A"] == (WIDTH - 7) / WIDTH
    assert ours["J"] == 6 / 13
