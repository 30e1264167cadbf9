import pytest

from datamodules.dataset import VideoRecord
from evaluation.cases import Prediction
from evaluation.protocols import RefDAVIS17AnnotatorsProtocol, RefDAVIS17Protocol
from tests.evaluation.protocols.cases import film, nothing, prediction, table, truth

LEFT, RIGHT = film(8, 8), film((20, 28), (20, 28))


def scored(parts, annotated, group="annotator 1", official=False):
    return RefDAVIS17AnnotatorsProtocol(official).score(Prediction.together(parts), annotated, group)


def test_units_are_annotators_of_videos():
    records = [VideoRecord(video, str(number), "", ()) for video in "ab" for number in range(8)]
    units = RefDAVIS17AnnotatorsProtocol().units(list(reversed(records)))
    assert len(units) == 8
    assert {len(unit) for unit in units} == {2}
    found = {(unit[0].video_id, unit[0].group): [record.expression_id for record in unit] for unit in units}
    assert found["a", "annotator 1"] == ["0", "4"]  # objects 1 and 2, whatever the order of the dataset
    assert found["b", "annotator 4"] == ["3", "7"]
    assert {record.group for unit in units for record in unit} == {f"annotator {number}" for number in (1, 2, 3, 4)}


@pytest.mark.parametrize("name", ["first", "-1", "", "²"])
def test_expressions_that_have_no_number_are_refused(name):
    with pytest.raises(ValueError, match=r"expressions numbered from 0, .* not the protocol of this dataset"):
        RefDAVIS17AnnotatorsProtocol().units([VideoRecord("a", name, "", ())])


def test_objects_are_averaged_over_videos_and_then_annotators():
    protocol = RefDAVIS17AnnotatorsProtocol()
    two, one = truth(LEFT, RIGHT), truth(LEFT)
    cases = [
        (Prediction.together([prediction(LEFT), prediction(film(0, 0))]), two, "annotator 1"),
        (prediction(LEFT), one, "annotator 1"),
        (prediction(LEFT), one, "annotator 2"),
        (prediction(film(0, 0)), one, "annotator 3"),
        (prediction(film(4, 4)), one, "annotator 4"),
    ]
    result = table(protocol, *cases)
    assert result["annotator 1"]["J"] == pytest.approx(2 / 3)  # of three objects, not of two videos
    assert result["overall"]["J"] == pytest.approx((2 / 3 + 1 + 0 + 0.5) / 4)


def test_proposals_may_be_swapped():
    swapped = scored([prediction(RIGHT), prediction(LEFT)], truth(LEFT, RIGHT))
    assert [scores.row for scores in swapped] == [{"J": 1, "F": 1}] * 2
    annotated = truth(LEFT)
    assert RefDAVIS17Protocol().score(prediction(RIGHT), annotated)[0].row["J"] == 0


def test_an_earlier_object_wins_overlaps():
    # 12 pixels each, of which four are shared: the later keeps eight
    first, second = film((0, 12)), film((8, 20))
    scores = scored([prediction(first), prediction(second)], truth(first, second))
    assert [each.row["J"] for each in scores] == [1, 8 / 12]
    per_expression = RefDAVIS17Protocol()
    assert [per_expression.score(prediction(each), truth(each))[0].row["J"] for each in (first, second)] == [1, 1]


def test_void_is_removed():
    annotated = truth(film(8), void=film((8, 12)))
    assert scored([prediction(film(12))], annotated)[0].row["J"] == 1
    assert RefDAVIS17Protocol().score(prediction(film(12)), annotated)[0].row["J"] == 8 / 12


@pytest.mark.parametrize("official", [False, True])
def test_an_expression_without_a_prediction_gets_0(official):
    # the second object is not there in frame 1, where an empty mask would be right
    annotated = truth(LEFT, film((20, 28), 0))
    scores = scored([prediction(LEFT), nothing()], annotated, official=official)
    assert [each.per_frame["J"].tolist() for each in scores] == [[1, 1], [0, 0]]
    answered = scored([prediction(LEFT), prediction(film(0, 0))], annotated, official=official)
    assert answered[1].per_frame["J"].tolist() == [0, 1]


def test_what_is_no_unit_is_refused():
    protocol = RefDAVIS17AnnotatorsProtocol()
    with pytest.raises(ValueError, match="got 1 predictions, 2 objects and the group 'annotator 1'; take `units`"):
        protocol.score(prediction(LEFT), truth(LEFT, RIGHT), "annotator 1")
    with pytest.raises(ValueError, match="1 objects and the group None"):
        protocol.score(prediction(LEFT), truth(LEFT))


def test_official_per_expression_leaves_out():
    cases = [(prediction(LEFT), truth(LEFT)), (nothing(), truth(LEFT))]
    assert table(RefDAVIS17Protocol(), *cases)["overall"]["J"] == 0.5
    assert table(RefDAVIS17Protocol(True), *cases)["overall"]["J"] == 1
