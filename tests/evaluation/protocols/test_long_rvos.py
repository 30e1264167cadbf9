import pytest

from evaluation.protocols import LongRVOSProtocol
from tests.evaluation.protocols.cases import film, nothing, prediction, table, truth

TARGET = film(8, 8, 8, 0, 0)


def scored(pred, official=False):
    [scores] = LongRVOSProtocol(official).score(pred, truth(TARGET), "static")
    return [scores.row[name] for name in ("J", "tIoU", "vIoU")]


def test_closed_form():
    # frames 0 and 1 are both's, 2 is the target's, 3 the prediction's
    assert scored(prediction(film(8, 4, 0, 8, 0))) == pytest.approx([(1 + 0.5 + 0 + 0 + 1) / 5, 2 / 4, 1.5 / 4])


def test_missing_frames_are_wrong_or_empty():
    pred = prediction(film(8, 8, 0, 0, 0), missing=(2, 3))
    # ours: frame 3 counts as if something was predicted there
    assert scored(pred) == pytest.approx([3 / 5, 2 / 4, 2 / 4])
    assert scored(pred, official=True) == pytest.approx([4 / 5, 2 / 3, 2 / 3])
    assert scored(nothing(5)) == [0, 0, 0]


def test_the_tool_stops_without_the_first_frame():
    protocol = LongRVOSProtocol(official=True)
    assert protocol.score(prediction(film(0, 8, 8, 0, 0), missing=(0,)), truth(TARGET), "static") == []
    assert [scores.row for scores in protocol.score(nothing(5, "video"), truth(TARGET), "static")] == [
        {"J": 0, "F": 0, "tIoU": 0, "vIoU": 0}
    ]


def test_table():
    result = table(
        LongRVOSProtocol(), (prediction(TARGET), truth(TARGET), "static"), (nothing(5), truth(TARGET), "hybrid")
    )
    assert list(result) == ["static", "hybrid", "overall"]
    assert result["overall"] == {"J": 0.5, "F": 0.5, "JF": 0.5, "tIoU": 0.5, "vIoU": 0.5}
