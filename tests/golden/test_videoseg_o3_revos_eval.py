import copy
import json

import pytest

from tests.golden import FOLDER, GoldenFileError, run

KIND = "videoseg_o3_revos_eval"
DATA = json.loads((FOLDER / f"{KIND}.json").read_text())


def altered(change):
    data = copy.deepcopy(DATA)
    change(data)
    return run(KIND, data)


def test_all_cases_pass():
    report = run(KIND, DATA)
    assert report.lines()[-1] == f"{KIND}: 8/8"
    assert not any(report.failures.values())


@pytest.mark.parametrize("field", ["J", "F", "JF", "A", "R", "type_id"])
def test_a_wrong_row_is_reported(field):
    def change(data):
        data["rows"][1][field] += 1 if field == "type_id" else 0.02

    report = altered(change)
    assert report.passed == report.total - 1
    [[text]] = [texts for texts in report.failures.values() if texts]
    assert text.startswith(f"{field}: got")


@pytest.mark.parametrize("group", ["referring", "reason", "overall"])
@pytest.mark.parametrize("field", ["J", "F", "JF", "A", "R"])
def test_a_wrong_mean_is_reported(group, field):
    def change(data):
        data["results_json"][group][field] += 1e-5

    report = altered(change)
    assert [name for name, texts in report.failures.items() if texts] == [f"results_json/{group}"]


def test_only_expressions_of_the_meta_file_are_measured():
    report = altered(lambda data: data["predictions"]["v1"].update(other=data["predictions"]["v1"]["0"]))
    assert report.passed == report.total == 8


def test_an_expression_without_a_prediction_has_no_row():
    def change(data):
        del data["predictions"]["v2"]
        data["rows"].pop()
        data["results_json"] = {
            "referring": data["results_json"]["referring"],
            "reason": {"J": None},
            "overall": {"J": None},
        }

    report = altered(change)
    assert report.passed == report.total == 7


def test_sections_may_be_missing_and_must_be_known():
    rows = {name: part for name, part in DATA.items() if name != "results_json"}
    assert run(KIND, rows).lines()[-1] == f"{KIND}: 5/5"
    with pytest.raises(GoldenFileError, match=r"but got no \['predictions'\]"):
        run(KIND, {name: part for name, part in DATA.items() if name != "predictions"})
    with pytest.raises(GoldenFileError, match=r"but got \['extra'\]"):
        run(KIND, DATA | {"extra": []})


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data["mask_dict"].pop("0"),
        lambda data: data["foreground"]["v1"].pop("masks_rle"),
        lambda data: data["predictions"]["v1"]["0"]["prediction_masks"][0].update(counts="?"),
        lambda data: data["meta"]["videos"]["v1"]["expressions"]["0"].pop("type_id"),
    ],
    ids=["annotation", "foreground", "counts", "type"],
)
def test_a_broken_input_fails_its_row_and_no_other(damage):
    report = altered(damage)
    failed = {name for name, fields in report.failures.items() if fields}
    assert "rows/v1/0" in failed
    assert "rows/v2/1" not in failed
    assert report.total == 8
