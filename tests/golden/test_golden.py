import json

import pytest

from tests.golden import FOLDER, GoldenFileError, Report, kinds, run, sections
from tests.golden.__main__ import main


def compared(got, expected, **tolerance):
    """The failures of one case with one field."""
    report = Report("kind")
    with report.case("case"):
        report.compare("field", got, expected, **tolerance)
    return report.failures["case"]


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (1.0, 1.0),
        (1.0 + 1e-6, 1),
        (1e6 + 9, 1e6),  # relative
        (None, None),
        ("a", "a"),
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        (float("nan"), "NaN"),
        ([float("inf"), -float("inf")], ["Infinity", "-Infinity"]),
        ({"a": [1.0]}, {"a": [1.0]}),
        (True, True),
    ],
)
def test_equal(got, expected):
    assert compared(got, expected) == []


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (1.0 + 2e-5, 1.0),
        (2, 1),
        (100001, 100000),  # integers are exact
        (None, 0),
        (0.0, None),
        ("a", "b"),
        ([1], [1, 2]),
        (float("nan"), 1.0),
        (1.0, "NaN"),
        (float("inf"), 1e308),
        (1e308, "Infinity"),
        ({"a": 1}, {"b": 1}),
        (True, 1),
    ],
)
def test_different(got, expected):
    [failure] = compared(got, expected)
    assert failure.startswith("field")


def test_tolerance_is_the_callers():
    assert compared(1.001, 1.0, atol=0.01) == []
    assert compared(1.0 + 1e-7, 1.0, atol=1e-9, rtol=0) != []


def test_report():
    report = Report("kind")
    with report.case("good"):
        report.compare("score", [0.5, 0.25], [0.5, 0.250001])
    with report.case("bad"):
        report.compare("score", [[1.0], [2.0]], [[1.0], [4.0]])
        report.compare("name", "x", "y")
    with report.case("broken"):
        raise IndexError("no such frame")
    report.skip("odd", "not ours")
    assert report.lines() == [
        "FAILED bad: score[1][0]: got 2.0, expected 4.0",
        "FAILED bad: name: got x, expected y",
        "FAILED broken: raised IndexError: no such frame",
        "skipped odd: not ours",
        "largest difference of score: 2",
        "kind: 1/3",
    ]


def test_cases_of_one_name_count_each():
    report = Report("kind")
    for _ in range(3):
        with report.case("same"):
            pass
    assert (report.passed, report.total) == (3, 3)


def test_sections_leave_out_what_is_no_data():
    data = {"kind": "x", "about": "", "source": "", "schema": {}, "cases": []}
    assert sections(data, ("cases", "scenes")) == {"cases": []}
    with pytest.raises(GoldenFileError, match=r"among \['scenes'\], but got \['cases'\]"):
        sections(data, ("scenes",))


def test_every_kind_has_a_file():
    assert {"veason_core_algos", "veason_rewards"} <= set(kinds())
    assert all((FOLDER / f"{kind}.json").exists() for kind in kinds())


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("veason_rewards", {"kind": "veason_core_algos"}, "Expected a file of kind 'veason_rewards'"),
        ("veason_rewards", {}, "but got None"),
        ("veason_rewards", {"kind": "veason_rewards", "extra": []}, r"but got \['extra'\]"),
        ("../secret", {"kind": "../secret"}, "Expected a kind among"),
    ],
)
def test_run_refuses(kind, data, message):
    with pytest.raises(GoldenFileError, match=message):
        run(kind, data)


@pytest.mark.parametrize(
    ("change", "status", "last"),
    [
        ({}, 0, "veason_rewards: 1/1"),
        ({"reward": 0.5}, 1, "veason_rewards: 0/1"),
        ({"rows": [1]}, 1, "veason_rewards: 0/1"),
        ({"iou": [[1.0, 0.0]]}, 1, "veason_rewards: 0/1"),
    ],
)
def test_command(tmp_path, capsys, change, status, last):
    case = {"boxes1": [[0, 0, 3, 3]], "boxes2": [[0, 0, 3, 3]], "iou": [[1.0]], "rows": [0], "cols": [0], "reward": 1.0}
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"kind": "veason_rewards", "batch_iou_cases": [case | change]}))
    assert main(["veason_rewards", str(path)]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == last
    assert any(line.startswith("FAILED batch_iou_cases/0: ") for line in lines) == bool(change)


@pytest.mark.parametrize("text", ['{"kind": "veason_rewards", "extra": []}', "no json", None])
def test_command_refuses_a_file(tmp_path, capsys, text):
    path = tmp_path / "file.json"
    if text is not None:
        path.write_text(text)
    assert main(["veason_rewards", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["jf_golden", "videoseg_o3_metrics", "videoseg_o3_revos_eval"])
@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        '{"kind": "%s", "SECTION": null}',
        '{"kind": "%s", "SECTION": {}}',
        '{"kind": "%s", "SECTION": [3]}',
        "[" * 100_000,
        "\xff",
    ],
    ids=["list", "null", "no section", "object for a list", "no cases", "deep", "bytes"],
)
def test_a_malformed_file_cannot_be_run(tmp_path, capsys, kind, content):
    section = {"jf_golden": "frames", "videoseg_o3_metrics": "cases", "videoseg_o3_revos_eval": "rows"}[kind]
    inputs = '"meta": {}, "mask_dict": {}, "foreground": {}, "predictions": {}, ' if section == "rows" else ""
    path = tmp_path / "file.json"
    path.write_bytes(content.replace("%s", kind).replace('"SECTION"', f'{inputs}"{section}"').encode("latin-1"))
    assert main([kind, str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"{path}: ")
