"""The table of an evaluation: in a terminal, as Markdown, CSV, JSON and LaTeX."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datamodules.files import to_json, write_atomically
from evaluation.protocols import Row, protocols
from evaluation.results import Evaluation, Result

#: what stands where a measure does not apply
DASH = "–"
#: measure -> number, None or NaN where it does not apply
Numbers = TypeVar("Numbers", bound=Mapping[str, float | None])
#: most sentences about problems that are shown in a terminal
MOST_PROBLEMS = 10

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "–": "--",
    }
    | {character: f"\\{character}" for character in "&%$#_{}"}
)


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are text.

    Args:
        headings: of the columns.
        rows: cells of each row.
        labels: how many columns, from the left, hold words; the others hold numbers, which are aligned at the right.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1

    def plain(self) -> str:
        """Return aligned columns for a terminal."""
        heading, *rows = ["  ".join(cells).rstrip() for cells in self._aligned()]
        return "\n".join([heading, "─" * max(map(len, (heading, *rows))), *rows])

    def markdown(self) -> str:
        """Return Markdown that is aligned as source, too."""
        heading, *rows = [f"| {' | '.join(cells)} |" for cells in self._aligned()]
        dashes = ["-" * (width + 2) for width in self._widths()]
        rule = [line if place < self.labels else f"{line[1:]}:" for place, line in enumerate(dashes)]
        return "\n".join([heading, f"|{'|'.join(rule)}|", *rows])

    def latex(self) -> str:
        """Return a ``tabular`` of the LaTeX package booktabs; what LaTeX would take as a command is escaped."""
        heading, *rows = [" & ".join(map(latex, cells)) + r" \\" for cells in (self.headings, *self.rows)]
        columns = "l" * self.labels + "r" * (len(self.headings) - self.labels)
        begin = rf"\begin{{tabular}}{{{columns}}}"
        return "\n".join([begin, r"\toprule", heading, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"])

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(self.headings, *self.rows, strict=True)]

    def _aligned(self) -> Iterator[list[str]]:
        aligns = [str.ljust if place < self.labels else str.rjust for place in range(len(self.headings))]
        for cells in (self.headings, *self.rows):
            yield [align(cell, width) for align, cell, width in zip(aligns, cells, self._widths(), strict=True)]


def latex(text: str) -> str:
    """Return text as LaTeX that shows it."""
    return text.translate(_LATEX)


def printable(text: str) -> str:
    """Return text in which what would steer a terminal is a question mark: file names come from anywhere."""
    return "".join(character if character.isprintable() else "?" for character in text)


def cell(measure: str, value: float | None, decimals: int = 1) -> str:
    """Show a number as papers do: in percent without the sign, rewards as they are, a dash where there is none."""
    if value is None or value != value:
        return DASH
    return f"{value:.3f}" if measure == "reward" else f"{100 * value:.{decimals}f}"


def cells(table: Mapping[str, Numbers], columns: Iterable[str], decimals: int = 1) -> list[list[str]]:
    """Return the name and the cells of each row; ``overall`` comes last, the others as they come."""
    measures = list(columns)
    return [[name, *(cell(each, row.get(each), decimals) for each in measures)] for name, row in overall_last(table)]


def overall_last(table: Mapping[str, Numbers]) -> list[tuple[str, Numbers]]:
    """Return names and rows of a table as they come, but ``overall`` last."""
    return sorted(table.items(), key=lambda row: row[0] == "overall")


def headings(measures: Iterable[str]) -> dict[str, str]:
    """Return the headings of measures, in the order in which protocols print them; what none prints comes last."""
    known = {name: heading for protocol in protocols() for name, heading in protocol.columns.items()}
    given = list(dict.fromkeys(measures))
    ordered = [name for name in known if name in given] + [name for name in given if name not in known]
    return {name: known.get(name, name) for name in ordered}


def table_of(evaluation: Evaluation, decimals: int = 1) -> TextTable:
    """Return the table of an evaluation as text."""
    rows = cells(evaluation.table, evaluation.columns, decimals)
    return TextTable(["queries", *evaluation.columns.values()], rows)


def problems_of(evaluation: Evaluation) -> list[str]:
    """Return every problem of an evaluation, a sentence each: of the predictions as a whole, then of expressions."""
    return [*evaluation.problems, *(each for result in evaluation.results for each in result.problems)]


def summary(evaluation: Evaluation) -> list[str]:
    """Return how much was missing, a sentence for each thing of which some was."""
    results = evaluation.results
    videos = {result.video_id for result in results}
    lost_videos = {result.video_id for result in results if result.lost == "video"}
    frames = sum(len(result.frame_names) for result in results)
    broken = sum(not result.measurable for result in results)
    dropped = sum(not result.counted for result in results) - broken
    counts = [
        (len(lost_videos), len(videos), "videos have no prediction at all"),
        (sum(result.lost is not None for result in results), len(results), "expressions have no prediction"),
        (sum(result.missing for result in results), frames, "frames have no usable prediction"),
        (dropped, len(results), "expressions are left out, as the tool does"),
        (broken, len(results), "expressions are not measurable: their annotation is broken or hidden"),
    ]
    return [f"{some:,} of {every:,} {what}" for some, every, what in counts if some]


def show(evaluation: Evaluation, decimals: int = 1) -> str:
    """Return an evaluation for the terminal: its setting, the table, and what was wrong with the predictions."""
    problems = problems_of(evaluation)
    listed = [f"  - {sentence}" for sentence in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        listed.append(f"  - and {len(problems) - MOST_PROBLEMS:,} more")
    blocks = [
        lines_of(evaluation.setting),
        table_of(evaluation, decimals).plain().splitlines(),
        summary(evaluation),
        listed,
    ]
    return "\n\n".join("\n".join(map(printable, lines)) for lines in blocks if lines)


def lines_of(setting: Mapping[str, str]) -> list[str]:
    """Return a line for each name and value, values below each other."""
    width = max(map(len, setting), default=0)
    return [printable(f"{name:<{width}}  {value}") for name, value in setting.items()]


def write_tables(evaluation: Evaluation, out: Path) -> None:
    """Write an evaluation as files, each of which appears as a whole.

    - ``table.csv``: the table; numbers are fractions in full precision, empty where a measure does not apply.
    - ``table.json``: the same with the setting, the headings and every problem.
    - ``table.tex``: the table in percent, to be pasted into a paper.
    - ``rows.csv``: a row per expression with every measure.

    Args:
        evaluation: what to write.
        out: folder; it is made if it is not there.
    """
    setting = [f"% {name}: {' '.join(value.split())}" for name, value in evaluation.setting.items()]
    content = {
        "table.csv": _csv(["queries", *evaluation.columns], _table_rows(evaluation)),
        "table.json": to_json(
            {
                "setting": evaluation.setting,
                "columns": evaluation.columns,
                "table": evaluation.table,
                "summary": summary(evaluation),
                "problems": problems_of(evaluation),
            },
            indent=2,
        )
        + "\n",
        "table.tex": "\n".join([*setting, table_of(evaluation).latex(), ""]),
        "rows.csv": _csv(*_expressions(evaluation.results)),
    }
    for name, text in content.items():
        write_atomically(out / name, text.encode(errors="replace"))  # JSON can hold half a character


def _table_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    for name, row in overall_last(evaluation.table):
        yield [name, *_numbers(row, evaluation.columns)]


def _expressions(results: Sequence[Result]) -> tuple[list[str], Iterator[list[str]]]:
    measures = headings(name for result in results for name in result.row)
    names = ["video", "expression_id", "expression", "group", *measures, "frames", "missing", "counted", "problems"]
    rows = (
        [
            *(result.video_id, result.expression_id, result.expression, result.group),
            *_numbers(result.row, measures),
            *(str(len(result.frame_names)), str(result.missing), str(result.counted).lower()),
            "; ".join(result.problems),
        ]
        for result in results
    )
    return names, rows


def _numbers(row: Row, measures: Iterable[str]) -> list[str]:
    values = (row.get(name) for name in measures)
    return ["" if value is None or value != value else repr(value) for value in values]


def _csv(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return buffer.getvalue()
