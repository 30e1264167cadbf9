import csv
import json
import math
from dataclasses import replace

import pytest

from evaluation.tables import DASH, TextTable, cell, headings, latex, show, write_tables
from tests.evaluation.found import evaluation, result

MISSED = {"problems": ["toy/a/2: frame 00000 is missing"], "missing": 1}
LOST = {"problems": ["toy/a/3: nothing"], "missing": 2, "lost": "expression", "counted": False}


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_show_is_a_setting_and_an_aligned_table():
    assert show(evaluation()) == "\n".join(
        [
            "dataset  ReVOS",
            "split    valid_u",
            "",
            "queries       J     F   J&F  R 0/255",
            "────────────────────────────────────",
            "referring  50.0  50.0  50.0     33.3",
            "absent      0.0  50.0  25.0        –",
            "overall    25.0  50.0  37.5     33.3",
        ]
    )


def test_show_counts_what_is_missing():
    shown = show(evaluation([result(0, 1, 1), result(2, 0, 0, **MISSED), result(3, 0, 0, **LOST)]))
    assert shown.split("\n\n")[2:] == [
        "1 of 3 expressions have no prediction\n"
        "3 of 6 frames have no usable prediction\n"
        "1 of 3 expressions are left out, as the tool does",
        "  - toy/a/2: frame 00000 is missing\n  - toy/a/3: nothing",
    ]


def test_show_lists_ten_problems_and_counts_the_others():
    lines = show(evaluation(problems=[f"problem {number}" for number in range(1011)])).splitlines()
    assert lines[-11:] == [*(f"  - problem {number}" for number in range(10)), "  - and 1,001 more"]


def test_names_do_not_steer_the_terminal():
    shown = show(evaluation(problems=["unknown video '\x1b[2Jé'"]))
    assert "\x1b" not in shown
    assert "unknown video '?[2Jé'" in shown


@pytest.mark.parametrize(
    ("measure", "value", "decimals", "expected"),
    [
        ("J", 0.12345, 1, "12.3"),
        ("J", 0.12345, 2, "12.35"),
        ("J", 1, 1, "100.0"),
        ("J", math.nan, 1, DASH),
        ("J", None, 1, DASH),
        ("reward", 1.5, 1, "1.500"),
    ],
)
def test_cell(measure, value, decimals, expected):
    assert cell(measure, value, decimals) == expected


def test_headings_are_those_of_protocols_and_in_their_order():
    assert headings(["reward", "new", "JF", "J", "J"]) == {"J": "J", "JF": "J&F", "reward": "reward", "new": "new"}


def test_files_hold_every_number(tmp_path):
    results = [result(0, 1 / 3, 0.5), result(2, 0.1, 0.2, "absent", **MISSED)]
    write_tables(evaluation(results, ["video 'b' is unknown"]), tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert {path.name for path in out.iterdir()} == {"table.csv", "table.json", "table.tex", "rows.csv"}
    assert read_csv(out / "table.csv") == [
        ["queries", "J", "F", "JF", "R"],
        ["referring", "0.5", "0.5", "0.5", repr(1 / 3)],
        ["absent", "0.0", "0.5", "0.25", ""],
        ["overall", "0.25", "0.5", "0.375", repr(1 / 3)],
    ]
    content = json.loads((out / "table.json").read_text())
    assert content["setting"] == {"dataset": "ReVOS", "split": "valid_u"}
    assert content["table"]["absent"] == {"J": 0.0, "F": 0.5, "JF": 0.25, "R": None}
    assert content["problems"] == ["video 'b' is unknown", *MISSED["problems"]]
    assert read_csv(out / "rows.csv") == [
        ["video", "expression_id", "expression", "group", "J", "F", "R", "frames", "missing", "counted", "problems"],
        ["toy/a", "0", "expression 0", "referring", repr(1 / 3), "0.5", "", "2", "0", "true", ""],
        ["toy/a", "2", "expression 2", "absent", "0.1", "0.2", "", "2", "1", "true", *MISSED["problems"]],
    ]


def test_rows_survive_any_sentence(tmp_path):
    sentence = 'the "one", that\nturns; =1+1'
    write_tables(evaluation([replace(result(0, 1, 1), expression=sentence)]), tmp_path)
    assert read_csv(tmp_path / "rows.csv")[1][2] == sentence


def test_latex_can_be_pasted(tmp_path):
    found = evaluation()
    found.setting["dataset"] = "Re\nVOS"
    write_tables(found, tmp_path)
    assert (tmp_path / "table.tex").read_text().splitlines() == [
        "% dataset: Re VOS",
        "% split: valid_u",
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r"queries & J & F & J\&F & R 0/255 \\",
        r"\midrule",
        r"referring & 50.0 & 50.0 & 50.0 & 33.3 \\",
        r"absent & 0.0 & 50.0 & 25.0 & -- \\",
        r"overall & 25.0 & 50.0 & 37.5 & 33.3 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert latex(r"a_b\c{}") == r"a\_b\textbackslash{}c\{\}"


def test_markdown_has_as_many_labels_as_it_is_told():
    table = TextTable(["run", "queries", "J"], [["a", "all", "1.0"], ["longer", "b", "10.0"]], labels=2)
    assert table.markdown().splitlines() == [
        "| run    | queries |    J |",
        "|--------|---------|-----:|",
        "| a      | all     |  1.0 |",
        "| longer | b       | 10.0 |",
    ]
