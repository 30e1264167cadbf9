import pytest

from evaluation.protocols import ViCaSProtocol
from tests.evaluation.protocols.cases import film, nothing, prediction, rows, table, truth

LEFT, RIGHT = film(20, 20), film((20, 40), (20, 40))
#: 14 of 20 pixels: found up to .7
MOST = film(14, 14)


def test_closed_form():
    result = table(
        ViCaSProtocol(),
        (prediction(RIGHT, MOST), truth(LEFT, RIGHT)),  # found: two up to .7, then one
        (prediction(film(1, 1)), truth(LEFT)),  # found: none
    )["overall"]
    # three tracks, three objects: (2/3)^2 five times, (1/3)^2 five times
    assert result["AP50"] == pytest.approx(4 / 9)
    assert result["AP75"] == result["AP90"] == pytest.approx(1 / 9)
    assert result["mAP"] == pytest.approx((5 * 4 / 9 + 5 * 1 / 9) / 10)


def test_official_takes_tracks_in_their_order():
    right, wrong = (prediction(LEFT), truth(LEFT)), (prediction(RIGHT), truth(LEFT))
    for cases, official, ours in (((right, wrong), 0.5, 0.25), ((wrong, right), 0.25, 0.25)):
        assert table(ViCaSProtocol(official=True), *cases)["overall"]["mAP"] == pytest.approx(official)
        assert table(ViCaSProtocol(), *cases)["overall"]["mAP"] == pytest.approx(ours)


def test_rows_say_which_tracks_found_an_object():
    [row] = rows(ViCaSProtocol(), (prediction(film(1, 1), MOST, RIGHT), truth(LEFT, RIGHT)))["overall"]
    assert (row["found@50"], row["found@70"], row["found@75"]) == (0b110, 0b110, 0b100)
    assert (row["tracks"], row["objects"]) == (3, 2)


@pytest.mark.parametrize(("official", "expected"), [(False, 1 * 1 / 2), (True, 1 / 3 * 1 / 2)])
def test_empty_tracks_are_wrong_for_the_tool(official, expected):
    # of two objects one is found, by one of one or, after two empty tracks, one of three
    case = (prediction(film(0, 0), film(0, 0), LEFT), truth(LEFT, RIGHT))
    assert table(ViCaSProtocol(official), case)["overall"]["AP50"] == pytest.approx(expected)


@pytest.mark.parametrize("official", [False, True])
def test_objects_of_a_missing_prediction_are_not_found(official):
    protocol = ViCaSProtocol(official)
    result = table(protocol, (prediction(LEFT), truth(LEFT)), (nothing(), truth(LEFT)))["overall"]
    assert set(result.values()) == {0.5}
    assert set(table(protocol, (nothing(), truth(LEFT)))["overall"].values()) == {0}
