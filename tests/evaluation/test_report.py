"""The page, read back: what stands in it, that it is well formed, and that nothing in it runs or is fetched."""

import math
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from datamodules import MeViS
from evaluation.drawing import annotate
from evaluation.images import encode_gray_mask
from evaluation.predictions import open_predictions
from evaluation.report import write_report
from evaluation.report.films import film
from evaluation.report.html import element
from evaluation.report.page import extremes
from evaluation.report.plots import curves, histogram
from evaluation.results import Evaluation, Result
from tests.builders import two_squares, write_mevis
from tests.evaluation.found import evaluation, result

VOID = {"img", "meta"}
EVIL = "<script>alert('x')</script> & \"quotes\"\ud800\x1b"


class Page(HTMLParser):
    """What a page holds; fails where an element is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.text, self.tags, self.sources = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def dataset(tmp_path):
    return MeViS(write_mevis(tmp_path / "mevis"), "valid_u")


def write_predictions(root, dataset, masks):
    for record in dataset.index:
        folder = root / record.video_id / record.expression_id
        folder.mkdir(parents=True, exist_ok=True)
        for name, mask in zip(record.frame_names, masks, strict=True):
            (folder / f"{name}.png").write_bytes(encode_gray_mask(mask))
    return open_predictions(root, dataset.index)


@pytest.fixture
def predictions(tmp_path, dataset):
    return write_predictions(tmp_path / "predicted", dataset, two_squares()[0])


def measured(record, number=0, **fields):
    """A result whose J falls to 0 at the fourth frame."""
    j = [0.5, 0.5, 0.5, 0.0, 0.5, 0.5]
    names = list(record.frame_names)
    row = {"J": number / 10, "F": number / 10}
    return Result(
        record.video_id, record.expression_id, record.expression, "overall", row, {"J": j, "F": j}, names, **fields
    )


def page_of(found, dataset, predictions, out, **options):
    write_report(found, dataset, predictions, out, **options)
    return Page((out / "report.html").read_text())


def test_the_report_shows_everything_once(tmp_path, dataset, predictions):
    results = [measured(record, number) for number, record in enumerate(dataset.index)]
    results[1] = replace(results[1], expression=EVIL, problems=[f"no {EVIL}"], missing=2)
    found = evaluation(results, [f"unknown {EVIL}"])
    page = page_of(found, dataset, predictions, tmp_path, most=2)
    text = " ".join(page.text)
    assert "no number for a single one" not in text
    assert "script" not in page.tags
    assert text.count("<script>") == 2 * 1 + 3  # a sentence drawn and listed, its problem twice, that of the whole
    assert page.tags.count("img") == 4
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    for heading in ("Best expressions", "Worst expressions", "Missing predictions (1)", "Problems (2)"):
        assert heading in page.text
    for row in (["referring", "50.0", "50.0", "50.0", "33.3"], ["absent", "0.0", "50.0", "25.0", "–"]):
        assert re.search(r"\s+".join(map(re.escape, row)), text)
    best, worst = page.text.index("Best expressions"), page.text.index("Worst expressions")
    assert [line.split(" · ")[0] for line in page.text[best:worst] if " · " in line] == ["b/2", "b/1"]
    assert [line.split(" · ")[0] for line in page.text[worst:] if " · " in line] == ["a/0", "a/1"]


def test_no_expression_is_best_and_worst():
    results = [result(number, number / 10, 0.5) for number in range(5)]
    results += [result(8, math.nan, math.nan), result(9, 0.9, 0.9, counted=False)]
    best, worst = extremes(evaluation(results), 20)
    assert [each.expression_id for each in best] == ["4", "3"]
    assert [each.expression_id for each in worst] == ["0", "1", "2"]
    assert [[each.expression_id for each in some] for some in extremes(evaluation(results), 1)] == [["4"], ["0"]]


def test_other_benchmarks_are_ranked_by_their_first_measure_of_frames():
    results = [replace(result(n, 0, 0), row={"IoU": n / 10, "union": 9}, per_frame={"IoU": [n]}) for n in range(4)]
    found = Evaluation({}, {"gIoU": "gIoU", "cIoU": "cIoU"}, {}, results)
    assert found.headline == "IoU"
    assert [each.expression_id for each in extremes(found, 1)[0]] == ["3"]


def test_a_benchmark_without_a_number_for_an_expression_has_a_page(tmp_path, dataset, predictions):
    record = dataset.index[0]
    results = [replace(measured(record), row={"found@50": 1.0, "tracks": 2.0}, per_frame={}, problems=["a/0: odd"])]
    found = Evaluation({"dataset": "ViCaS"}, {"mAP": "mAP"}, {"overall": {"mAP": 0.5}}, results)
    assert found.headline is None
    page = page_of(found, dataset, predictions, tmp_path)
    assert [heading for heading in ("mAP", "50.0", "Problems (1)") if heading not in page.text] == []
    assert "img" not in page.tags
    assert sum("has no number for a single one" in text for text in page.text) == 1


def strip_of(dataset, predictions, record, **fields):
    strip = film(dataset, predictions, record, measured(record, **fields), max_frames=3, side=64)
    return strip, np.array(Image.open(BytesIO(strip.jpeg))).astype(int)


def cyan(picture):
    """Where a mask is drawn over gray: its colour is blue and not red."""
    return picture[..., 2] - picture[..., 0] > 50


def test_a_strip_shows_the_worst_frame_and_both_masks(dataset, predictions):
    late = dataset.index[1]  # whose object is not the predicted one and comes in the last half
    strip, picture = strip_of(dataset, predictions, late)
    assert strip.places == [0, 3, 5]
    assert strip.notes == []
    white = (np.abs(picture - [255, 255, 255]).max(axis=2) < 40).sum(axis=0)
    cells = [slice(start, start + 70) for start in (0, 78, 156)]
    assert [bool(cyan(picture)[:, cell].any()) for cell in cells] == [True, True, True]
    assert [white[cell].sum() > 50 for cell in cells] == [False, True, True]


def test_a_strip_without_frames_is_drawn_on_black(tmp_path, dataset, predictions):
    record = dataset.index[0]
    _, before = strip_of(dataset, predictions, record)
    for path in (dataset.images / record.video_id).iterdir():
        path.unlink()
    strip, picture = strip_of(dataset, predictions, record)
    assert re.match(r"3 of 3 frames are drawn on black: 'a/0': expected a frame .*00000.jpg", strip.notes[0])
    assert before.shape == picture.shape
    corner = (slice(60, 80), slice(10, 20))
    assert before[corner].mean() > 30
    assert picture[corner].mean() < 10
    assert cyan(picture).any()


def test_what_cannot_be_drawn_is_said(tmp_path, dataset, predictions):
    (dataset.images / "a/00000.jpg").write_bytes(b"no picture")
    results = [measured(record, number) for number, record in enumerate(dataset.index)]
    page = page_of(evaluation(results), dataset, predictions, tmp_path)
    assert page.tags.count("img") == 3
    assert sum(text.startswith("No film strip: 'a/") for text in page.text) == 3


def test_a_missing_prediction_is_not_an_empty_one(tmp_path, dataset):
    record = dataset.index[0]
    predictions = write_predictions(tmp_path / "predicted", dataset, two_squares()[0])
    (tmp_path / "predicted/a/0/00003.png").unlink()
    _, picture = strip_of(dataset, predictions, record)
    assert [bool(cyan(picture)[:, start : start + 70].any()) for start in (0, 78)] == [True, False]


def test_hidden_masks_have_no_outline(tmp_path):
    dataset = MeViS(write_mevis(tmp_path / "mevis"), "valid")
    predictions = write_predictions(tmp_path / "predicted", dataset, two_squares()[0])
    _, picture = strip_of(dataset, predictions, dataset.index[1])
    expected = annotate(dataset.frames(dataset.index[1])(5), two_squares()[0, 5], side=64)
    difference = picture[-67:-3, -67:-3] - expected.permute(1, 2, 0).numpy()
    assert np.abs(difference).mean() < 4  # what JPEG loses; a white outline would be far more


def bars(svg):
    return [int(count) for count in re.findall(r"<title>\d+ to \d+: (\d+)</title>", svg)]


def test_histograms_count():
    assert bars(histogram([0.0, 0.04, 0.05, 1.0, 1.5, -0.1, math.nan], "all")) == [3, 1, *[0] * 17, 2]
    assert "all (2, mean 25.0)" in histogram([0.0, 0.5], "all")
    assert bars(histogram([], "none")) == [0] * 20


def test_curves_are_to_scale():
    svg = curves({"J": [0.0, math.nan, 1.0], "F": [0.5, 2.0, -1.0]}, marks=[1], width=148, height=148)
    lines = re.findall(r'points="([^"]*)"', svg)
    assert lines == ["24.0,124.0 124.0,24.0", "24.0,74.0 74.0,24.0 124.0,124.0"]
    assert '<line x1="74.0" y1="124.0" x2="74.0" y2="24.0"' in svg
    assert '<circle cx="320.0"' in curves({"J": [0.5]})
    Page(svg)


def test_attributes_are_escaped():
    assert element("img", alt=EVIL).encode().isascii()
    assert element("img", alt='"<\ud800') == '<img alt="&quot;&lt;?">'


def test_text_is_escaped_and_html_is_not():
    assert element("b", "<a>", element("i", "&"), class_='"') == '<b class="&quot;">&lt;a&gt;<i>&amp;</i></b>'


def test_the_picture_is_a_whole_jpeg(tmp_path, dataset, predictions):
    page = page_of(evaluation([measured(dataset.index[0])]), dataset, predictions, tmp_path)
    with Image.open(BytesIO(b64decode(page.sources[0].partition(",")[2]))) as picture:
        picture.load()
        assert picture.format == "JPEG"
