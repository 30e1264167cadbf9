"""Plots as inline SVG."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.report.html import Html, element

#: colours of curves, in order
COLOURS = ("#00d0ff", "#ffb020", "#9ea6b2", "#ff6b81", "#7bd88f")
_MARGIN = 24


def histogram(values: Sequence[float], title: str, bins: int = 20, width: int = 300, height: int = 130) -> Html:
    """Draw how often fractions occur; below 0 counts as 0, above 1 as 1.

    Args:
        values: what is counted; NaN is left out.
        title: what stands above.
        bins: of equal width between 0 and 1; the last one holds 1.
        width: of the plot in pixels.
        height: of the plot in pixels.
    """
    known = [value for value in values if not math.isnan(value)]
    counts = np.histogram(np.clip(known, 0, 1), bins, (0, 1))[0].tolist()
    step, full = (width - 2 * _MARGIN) / bins, height - 2 * _MARGIN
    bars = []
    for number, count in enumerate(counts):
        tall = full * count / max(1, *counts)
        tip = element("title", f"{100 * number / bins:.0f} to {100 * (number + 1) / bins:.0f}: {count}")
        place = {"x": f"{_MARGIN + number * step:.1f}", "y": f"{height - _MARGIN - tall:.1f}"}
        bars.append(element("rect", tip, **place, width=f"{step - 1:.1f}", height=f"{tall:.1f}", fill=COLOURS[0]))
    mean = f", mean {100 * sum(known) / len(known):.1f}" if known else ""
    heading = _text(width / 2, 14, f"{title} ({len(known):,}{mean})")
    ticks = [_text(_MARGIN + share * (width - 2 * _MARGIN), height - 8, f"{100 * share:.0f}") for share in (0, 0.5, 1)]
    axis = _line(_MARGIN, height - _MARGIN, width - _MARGIN, height - _MARGIN)
    return _svg(width, height, heading, *bars, axis, *ticks)


def curves(
    series: Mapping[str, Sequence[float]], marks: Sequence[int] = (), width: int = 640, height: int = 130
) -> Html:
    """Draw fractions over frames.

    Args:
        series: a number per frame for each measure; NaN is left out.
        marks: frames with a vertical line.
        width: of the plot in pixels.
        height: of the plot in pixels.
    """
    length = max(map(len, series.values()), default=0)

    def across(frame: int) -> float:
        return _MARGIN + (width - 2 * _MARGIN) * (frame / (length - 1) if length > 1 else 0.5)

    def up(value: float) -> float:
        return height - _MARGIN - (height - 2 * _MARGIN) * min(1.0, max(0.0, value))

    grid = [_line(_MARGIN, up(share), width - _MARGIN, up(share)) for share in (0, 0.5, 1)]
    grid += [_line(across(frame), up(0), across(frame), up(1), "#5b6270") for frame in marks]
    labels = [_text(12, up(share) + 4, f"{100 * share:.0f}") for share in (0, 0.5, 1)]
    labels += [_text(across(frame), height - 8, str(frame)) for frame in sorted({0, max(0, length - 1)})]
    drawn = []
    for number, (name, values) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        labels.append(_text(_MARGIN + 20 + 40 * number, 14, name, colour))
        points = [f"{across(frame):.1f},{up(value):.1f}" for frame, value in enumerate(values) if value == value]
        if len(points) == 1:
            x, y = points[0].split(",")
            drawn.append(element("circle", cx=x, cy=y, r=3, fill=colour))
        drawn.append(element("polyline", points=" ".join(points), fill="none", stroke=colour, stroke_width=1.5))
    return _svg(width, height, *grid, *drawn, *labels)


def _svg(width: int, height: int, *content: Html) -> Html:
    return element("svg", *content, width=width, height=height, viewBox=f"0 0 {width} {height}", role="img")


def _text(x: float, y: float, text: str, colour: str = COLOURS[2]) -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", fill=colour, font_size=11, text_anchor="middle")


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#3a404b") -> Html:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    return element("line", **ends, stroke=colour)
