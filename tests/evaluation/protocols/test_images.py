import pytest

from evaluation.protocols import ReasonSegProtocol, RefCOCOProtocol
from tests.evaluation.protocols.cases import film, nothing, prediction, table, truth


def test_giou_is_a_mean_and_ciou_counts_pixels():
    cases = [(prediction(film(1)), truth(film(2))), (prediction(film(36)), truth(film(40)))]
    assert table(RefCOCOProtocol(), *cases)["overall"] == {"gIoU": pytest.approx(0.7), "cIoU": pytest.approx(37 / 42)}


def test_official_epsilons():
    cases = [(prediction(film(1)), truth(film(2))), (prediction(film(0)), truth(film(0)))]
    result = table(RefCOCOProtocol(official=True), *cases)["overall"]
    assert result["gIoU"] == pytest.approx((1 / (2 + 1e-5) + 1) / (2 + 1e-5), abs=1e-12)
    assert result["cIoU"] == pytest.approx(1 / (2 + 1e-10), abs=1e-14)
    assert table(RefCOCOProtocol(), *cases)["overall"] == {"gIoU": 0.75, "cIoU": 0.5}


def test_phrases_sentences_and_all_images():
    ignored = truth(film(8), void=film((8, 12)))
    result = table(
        ReasonSegProtocol(),
        (prediction(film(12)), ignored, "short"),
        (prediction(film(4)), truth(film(8)), "long"),
        (prediction(film(8)), truth(film(8)), "long"),
    )
    assert list(result) == ["short", "long", "overall"]
    assert result["short"] == {"gIoU": 1, "cIoU": 1}
    assert result["long"] == {"gIoU": 0.75, "cIoU": 0.75}
    assert result["overall"] == pytest.approx({"gIoU": 2.5 / 3, "cIoU": 20 / 24})


def test_what_is_missing_is_wrong_even_where_nothing_is():
    result = table(RefCOCOProtocol(), (nothing(1), truth(film(0))), (nothing(1), truth(film(8))))
    assert result["overall"] == {"gIoU": 0, "cIoU": 0}
