"""The page that shows an evaluation."""

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.files import write_atomically
from evaluation.drawing import BOX, PREDICTION, TRUTH
from evaluation.predictions import Predictions
from evaluation.report.films import film
from evaluation.report.html import Html, element, joined
from evaluation.report.plots import curves, histogram
from evaluation.results import Evaluation, Result
from evaluation.tables import cell, headings, problems_of, summary, table_of

#: most problems, and most expressions with some, that are listed; ``table.json`` and ``rows.csv`` have all
MOST_LISTED = 1000

_LEGEND = {"predicted mask": PREDICTION, "outline of the true mask": TRUTH, "worst frame": BOX}
# Nothing is fetched and nothing runs, whatever a file name or a sentence says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NO_HEADLINE = (
    "Expressions are neither ranked nor shown, and there are no histograms: this benchmark measures all expressions "
    "together, and has no number for a single one."
)
_STYLE = Path(__file__).with_name("style.css")


def write_report(
    evaluation: Evaluation,
    dataset: VideoDataset,
    predictions: Predictions,
    out: Path,
    most: int = 20,
    progress: Callable[[Sequence[Result]], Iterable[Result]] = iter,
) -> None:
    """Write an evaluation as ``report.html``, one file that needs no other and no network.

    It shows the setting, the table, histograms per group, the best and the worst expressions as film strips with curves
    over frames, and what was wrong with the predictions.

    Args:
        evaluation: what was found.
        dataset: what was evaluated on; where a frame cannot be read, masks are drawn on black.
        predictions: what was evaluated.
        out: folder; it is made if it is not there.
        most: most expressions that are shown as best, and as worst; none is both.
        progress: wraps the expressions that are drawn, to show how far it is (``tqdm`` fits).
    """
    records = {record.key: record for record in dataset.index}
    best, worst = extremes(evaluation, most)
    drawn = {
        result.key: expression(evaluation, result, dataset, predictions, records[result.key])
        for result in progress([*best, *worst])
    }
    sections = [
        settings(evaluation),
        table(evaluation),
        *spread(evaluation),
        *_films("Best expressions", [drawn[result.key] for result in best]),
        *_films("Worst expressions", [drawn[result.key] for result in worst]),
        *problems(evaluation),
    ]
    title = " · ".join(["thinkseg evaluate", *(evaluation.setting.get(name, "") for name in ("dataset", "split"))])
    write_atomically(out / "report.html", _page(title, sections).encode())


def extremes(evaluation: Evaluation, most: int) -> tuple[list[Result], list[Result]]:
    """Return the best expressions, best first, and the worst, worst first; none is in both."""
    counted = [each for each in evaluation.results if each.counted and not math.isnan(evaluation.worth(each))]
    ranked = sorted(counted, key=evaluation.worth)
    number = min(most, (len(ranked) + 1) // 2)
    return ranked[::-1][: min(most, len(ranked) - number)], ranked[:number]


def settings(evaluation: Evaluation) -> Html:
    """Return what belongs to the numbers."""
    pairs = (joined(element("dt", name), element("dd", value)) for name, value in evaluation.setting.items())
    return element("dl", *pairs)


def table(evaluation: Evaluation) -> Html:
    """Return the table, and below it how much was missing."""
    text = table_of(evaluation)
    head = element("thead", _row("th", text.headings))
    body = element("tbody", *(_row("td", row) for row in text.rows))
    return joined(element("table", head, body), _list(summary(evaluation)))


def spread(evaluation: Evaluation) -> Iterator[Html]:
    """Draw how expressions are spread, for each group and, where there are several, for all of them; or say why not."""
    if evaluation.headline is None:
        yield element("p", _NO_HEADLINE, class_="faint")
        return
    groups: dict[str, list[float]] = {}
    for result in evaluation.results:
        if result.counted:
            groups.setdefault(result.group, []).append(evaluation.worth(result))
    every = {"all expressions": [value for values in groups.values() for value in values]} if len(groups) > 1 else {}
    yield element("h2", f"{evaluation.headline} of expressions, in percent")
    yield element("div", *(histogram(values, name) for name, values in (every | groups).items()), class_="plots")


def expression(
    evaluation: Evaluation, result: Result, dataset: VideoDataset, predictions: Predictions, record: VideoRecord
) -> Html:
    """Return one expression: its sentence, measures, film strip and curves."""
    strip = film(dataset, predictions, record, result)
    shown = headings(name for name in result.row if name in result.per_frame or name in evaluation.columns)
    measures = {str(evaluation.headline): evaluation.worth(result)}
    measures |= {heading: result.row[name] for name, heading in shown.items()}
    facts = [result.key, result.group, *(f"{name} {cell(name, value)}" for name, value in measures.items())]
    content = [element("h3", result.expression), element("div", " · ".join(facts), class_="faint")]
    if strip.jpeg is not None:
        source = f"data:image/jpeg;base64,{b64encode(strip.jpeg).decode()}"
        content.append(element("img", src=source, alt=f"film strip of {result.key}"))
    if result.per_frame:
        content.append(curves(result.per_frame, strip.places))
    return element("section", *content, _list([*result.problems, *strip.notes]))


def problems(evaluation: Evaluation) -> Iterator[Html]:
    """Return the expressions without a usable prediction at some frame, and every problem."""
    lacking = [result for result in evaluation.results if result.lost is not None or result.missing]
    lines = [f"{result.key} ({result.expression}): {_missing(result)}" for result in lacking]
    for heading, entries in (("Missing predictions", lines), ("Problems", problems_of(evaluation))):
        if entries:
            yield element("h2", f"{heading} ({len(entries):,})")
            yield _list(entries[:MOST_LISTED])
            if len(entries) > MOST_LISTED:
                yield element("p", f"and {len(entries) - MOST_LISTED:,} more")


def _page(title: str, sections: Sequence[Html]) -> str:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", title),
        element("style", Html(_STYLE.read_text())),
    )
    body = element("body", element("h1", title), *sections)
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _films(heading: str, drawn: Sequence[Html]) -> Iterator[Html]:
    if drawn:
        yield element("h2", heading)
        swatches = (
            joined(element("span", class_="swatch", style=f"background: rgb{colour}"), name)
            for name, colour in _LEGEND.items()
        )
        yield element("p", *swatches, class_="faint")
        yield from drawn


def _row(kind: str, cells: Sequence[str]) -> Html:
    return element("tr", *(element(kind, each) for each in cells))


def _list(sentences: Sequence[str]) -> Html:
    return element("ul", *(element("li", each) for each in sentences)) if sentences else Html("")


def _missing(result: Result) -> str:
    return f"nothing for this {result.lost}" if result.lost else f"{result.missing} of {len(result.frame_names)} frames"
