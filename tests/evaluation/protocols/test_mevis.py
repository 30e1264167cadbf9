import math

import pytest

from evaluation.protocols import MeViSProtocol, MeViSv2Protocol
from tests.evaluation.protocols.cases import film, nothing, prediction, table, truth

TARGET, NOTHING = film(8, 8), film(0, 0)
THERE, ABSENT = truth(TARGET), truth(frames=2)


def test_final_is_the_mean_of_three():
    result = table(
        MeViSv2Protocol(),
        (prediction(TARGET), THERE),
        (prediction(NOTHING), THERE),
        (prediction(film(0, 4)), THERE),
        (prediction(NOTHING), ABSENT, "absent"),
        (prediction(film(1, 0)), ABSENT, "absent"),
    )
    overall = result["overall"]
    # frames without target and without prediction are right: 1 and 1/2 of the absent ones
    assert overall["J"] == pytest.approx((1 + 0 + 0.25 + 1 + 0.5) / 5)
    assert overall["N_acc"] == result["absent"]["N_acc"] == 0.5
    assert overall["T_acc"] == result["target"]["T_acc"] == pytest.approx(2 / 3)
    assert overall["final"] == pytest.approx((overall["JF"] + 0.5 + 2 / 3) / 3)
    assert math.isnan(result["target"]["N_acc"])
    assert math.isnan(result["absent"]["T_acc"])


def test_the_published_mean():
    rows = {"target": [{"J": 0.7922, "F": 0.7922, "T_acc": 0.9877}], "absent": [{"N_acc": 0.9444}]}
    assert MeViSv2Protocol().table(rows)["overall"]["final"] == pytest.approx(0.9081, abs=5e-5)


def test_what_is_missing_is_wrong():
    protocol = MeViSv2Protocol()
    result = table(protocol, (nothing(), THERE), (nothing(), ABSENT, "absent"))["overall"]
    assert {result[name] for name in protocol.columns} == {0}
    half = table(protocol, (prediction(NOTHING, missing=(0,)), ABSENT, "absent"))["absent"]
    assert (half["J"], half["N_acc"]) == (0.5, 0)


def test_official_leaves_expressions_out():
    protocol = MeViSProtocol(official=True)
    cases = [
        (prediction(TARGET), THERE),
        (nothing(lost="expression"), THERE),
        (prediction(TARGET, missing=(1,)), THERE),
    ]
    assert table(protocol, *cases)["overall"]["J"] == 1
    assert table(MeViSProtocol(), *cases)["overall"]["J"] == 0.5
    assert table(protocol, *cases, (nothing(lost="video"), THERE))["overall"]["J"] == 0.5


def test_mevis_has_no_absent_targets():
    with pytest.raises(ValueError, match="one without a target: use the dataset `MeViSv2`"):
        MeViSProtocol().score(prediction(NOTHING), ABSENT, "absent")
