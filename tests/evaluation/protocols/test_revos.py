import math

import pytest

from evaluation.functional import boundary_accuracy
from evaluation.protocols import ReVOSProtocol
from tests.evaluation.protocols.cases import WIDTH, film, nothing, prediction, table, truth

MEASURES = ("J", "F", "A", "A_255", "R", "R_255")


def scored(pred, annotated, official=False, group="referring"):
    [scores] = ReVOSProtocol(official).score(pred, annotated, group)
    return scores.row


def test_both_encodings_side_by_side():
    # 8 of 12 pixels are right, 4 wrong, 4 missed; the foreground is 20
    pred, annotated = film((4, 16)), truth(film(12), foreground=film(20))
    row = scored(prediction(pred), annotated)
    assert row["J"] == 8 / 16
    assert row["A"] == (WIDTH - 8) / WIDTH
    assert row["A_255"] == (WIDTH - 8 - 8) / WIDTH  # 255 is not 1: pixels that are right are not equal
    assert row["R"] == pytest.approx(1 - 4 / 20, abs=1e-6)
    assert row["R_255"] == 0  # 4 * 255 is more than 20


def test_official_overlaps_add_up():
    # pixels 4 to 8 belong to both objects: their value is 2
    pred, annotated = prediction(film(12)), truth(film(8), film((4, 12)), foreground=film(WIDTH))
    ours, tools = scored(pred, annotated), scored(pred, annotated, official=True)
    assert ours["J"] == tools["J"] == 1
    assert (ours["A"], ours["R"]) == (1, 1)
    assert tools["A"] == (WIDTH - 4) / WIDTH
    assert tools["A_255"] == ours["A_255"] == (WIDTH - 12) / WIDTH
    assert tools["R"] == 0  # (1 - 2) * 1 is 255, four times, of 40
    # (1 - 2) * 255 is 1, four times, of 40
    assert tools["R_255"] == pytest.approx(1 - 4 / WIDTH, abs=1e-4)


def test_official_rounds_each_expression():
    annotated = truth(film(12), foreground=film(WIDTH))
    pred = prediction(film(7))
    assert scored(pred, annotated)["J"] == 7 / 12
    assert scored(pred, annotated, official=True)["J"] == pytest.approx(0.5833, abs=1e-12)
    f = boundary_accuracy(film(7), film(12)).item()
    assert scored(pred, annotated, official=True)["F"] == pytest.approx(round(f, 4), abs=1e-12)
    result = table(ReVOSProtocol(True), (pred, annotated, "referring"), (prediction(film(12)), annotated, "referring"))
    assert result["referring"]["J"] == pytest.approx((0.5833 + 1) / 2, abs=1e-12)


def test_without_a_foreground_there_is_no_r():
    target = film(8, 8)
    result = table(ReVOSProtocol(), (prediction(target), truth(target), "referring"))["referring"]
    assert math.isnan(result["R"])
    assert math.isnan(result["R_255"])
    assert result["A"] == 1


def test_absent_targets_have_a_row_and_a_column_of_their_own():
    target, absent = film(8, 8), truth(frames=2, foreground=film(8, 8))
    protocol = ReVOSProtocol()
    result = table(
        protocol,
        (prediction(target), truth(target, foreground=target), "referring"),
        (prediction(film(0, 1)), absent, "absent"),
        (prediction(film(0, 0)), absent, "absent"),
        (prediction(), absent, "absent"),
        (nothing(), absent, "absent"),
    )
    assert list(result) == ["referring", "absent", "overall"]
    assert result["absent"]["hallucination"] == result["overall"]["hallucination"] == 0.5
    assert math.isnan(result["referring"]["hallucination"])
    assert result["overall"]["J"] == 1  # they count nowhere else
    assert result["absent"]["J"] == (0.5 + 1 + 1 + 0) / 4


@pytest.mark.parametrize("official", [False, True])
def test_a_missing_picture_is_no_empty_answer(official):
    absent = truth(frames=2, foreground=film(8, 8))
    row = scored(prediction(film(0, 0), missing=(1,)), absent, official, "absent")
    assert row["hallucination"] == 1
    assert row["J"] == (0 if official else 0.5)


def test_official_zeros_an_expression_of_which_a_picture_is_missing():
    target = film(8, 8)
    pred, annotated = prediction(film(8, 0), missing=(1,)), truth(target, foreground=target)
    assert [scored(pred, annotated, official=True)[name] for name in MEASURES] == [0] * 6
    # ours: what is there counts; of 8 pixels, right ones are not 255, and none is wrong
    assert [scored(pred, annotated)[name] for name in MEASURES] == [0.5, 0.5, 0.5, (WIDTH - 8) / WIDTH / 2, 0.5, 0.5]


def test_columns():
    assert list(ReVOSProtocol.columns) == ["J", "F", "JF", "A", "A_255", "R", "R_255", "hallucination"]
