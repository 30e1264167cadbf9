"""Sentences that are true of a scene: referring, reasoning, and about what is not there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datamodules.shapes.scenes import Preset, Scene

Group = Literal["referring", "reasoning", "absent"]
#: the fastest moves at least so many times as fast as any other …
SPEED_RATIO = 2.0
#: … and covers at least this fraction of the shorter side per frame
MIN_SPEED = 0.06
#: consecutive pairs of frames in which a shape must be in full view for its motion to be known
_WITNESSED_STEPS = 2

#: by kind of reasoning: how a thought gives the reason, and the wordings of the sentence
REASONING = {
    "fastest": (
        "is fastest",
        ("the fastest one", "which shape would win a race?", "what is quicker than all the rest?"),
    ),
    "turn": (
        "changes direction",
        ("the one that changes direction", "which shape does not keep its course?", "what turns on its way?"),
    ),
    "still": ("stays still", ("the one that never moves", "which shape stays where it is?", "what is at rest?")),
    "odd": (
        "is different",
        ("the odd one out", "which shape does not belong to the others?", "what is unlike the rest?"),
    ),
    "leaves": ("leaves", ("the one that leaves", "which shape is gone at the end?", "what goes out of sight?")),
    "enters": ("enters", ("the one that enters", "which shape comes in later?", "what is missing at the start?")),
}


@dataclass(frozen=True)
class Expression:
    """A sentence about a scene.

    Args:
        text: the sentence.
        group: whether it describes, must be reasoned about, or names nothing.
        targets: positions in ``Scene.shapes`` of what it means, ascending.
        reason: what a thought says about the target of a reasoning sentence; empty otherwise.
    """

    text: str
    group: Group
    targets: tuple[int, ...]
    reason: str = ""


def draw_expressions(scene: Scene, preset: Preset, rng: np.random.Generator) -> list[Expression]:
    """Draw the sentences of a scene: all that describe its shapes, all reasoning that holds, perhaps one about nothing.

    Args:
        scene: the video.
        preset: how many wordings there are, and how often a sentence names nothing.
        rng: chooses wordings and the absent shape.

    Returns:
        Sentences without repetition, referring ones first.
    """
    sentences = [*_referring(scene, preset), *_reasoning(scene, preset, rng)]
    if rng.random() < preset.absent:
        sentences.append(_absent(scene, preset, rng))
    return list({sentence.text: sentence for sentence in sentences}.values())


def _referring(scene: Scene, preset: Preset) -> Iterator[Expression]:
    """Name every look by the fewest words that single it out, and every colour and form that several shapes share."""
    shapes = scene.shapes
    for n, shape in enumerate(shapes):
        alike = [m for m, other in enumerate(shapes) if (other.colour, other.form) == (shape.colour, shape.form)]
        same_size = [m for m in alike if shapes[m].size == shape.size]
        if len(alike) == 1:
            yield Expression(f"the {shape.colour} {shape.form}", "referring", (n,))
        elif len(same_size) == 1:
            yield Expression(f"the {shape.size} {shape.colour} {shape.form}", "referring", (n,))
        else:
            yield Expression(f"the {shape.colour} {plural(shape.form)}", "referring", tuple(alike))
    if preset.distinct_colours:
        return
    for colour in sorted({shape.colour for shape in shapes}):
        same = tuple(n for n, shape in enumerate(shapes) if shape.colour == colour)
        if 1 < len(same) < len(shapes):
            yield Expression(f"{'both' if len(same) == 2 else 'all'} {colour} shapes", "referring", same)
    for form in sorted({shape.form for shape in shapes}):
        same = tuple(n for n, shape in enumerate(shapes) if shape.form == form)
        if 1 < len(same) < len(shapes):
            yield Expression(f"the {plural(form)}", "referring", same)


def plural(form: str) -> str:
    """Return the plural of the name of a form."""
    return f"{form}es" if form.endswith("s") else f"{form}s"


def _reasoning(scene: Scene, preset: Preset, rng: np.random.Generator) -> Iterator[Expression]:
    for kind in preset.reasoning:
        targets = reasoning_targets(scene, kind)
        if len(targets) == 1:
            reason, wordings = REASONING[kind]
            text = wordings[int(rng.integers(min(preset.wordings, len(wordings))))]
            yield Expression(text, "reasoning", targets, reason)


def reasoning_targets(scene: Scene, kind: str) -> tuple[int, ...]:
    """Return the shapes of which a kind of reasoning holds beyond doubt; a sentence is written if there is exactly one.

    Args:
        scene: the video.
        kind: ``fastest``, ``turn``, ``still``, ``odd``, ``leaves`` or ``enters``.

    Returns:
        Positions in ``scene.shapes``; empty where a single shape leaves nothing to compare, or where a motion that the
        sentence compares is not seen.
    """
    if len(scene.shapes) < 2 and kind in ("fastest", "still", "odd"):
        return ()
    if kind == "odd":
        return _odd(scene)
    if kind in ("leaves", "enters"):
        return _crossing(scene, first=kind == "enters")
    views = scene.in_full_view
    if ((views[:, 1:] & views[:, :-1]).sum(axis=1) < _WITNESSED_STEPS).any():
        return ()
    if kind == "fastest":
        return _fastest(scene)
    doing = tuple(n for n, shape in enumerate(scene.shapes) if shape.path.motion == kind)
    return doing if all(views[n].all() for n in doing) else ()


def _fastest(scene: Scene) -> tuple[int, ...]:
    speeds = np.array([shape.path.speed for shape in scene.shapes])
    best = int(speeds.argmax())
    rest = np.delete(speeds, best).max()
    enough = max(SPEED_RATIO * rest, MIN_SPEED * min(scene.labels.shape[1:]))
    return (best,) if speeds[best] >= enough else ()


def _odd(scene: Scene) -> tuple[int, ...]:
    """Return every shape that differs by some attribute from all others, which agree in it."""
    odd = set()
    attributes = ("colour", "form", "size")
    looks = [[getattr(shape, name) for shape in scene.shapes] for name in attributes]
    looks.append([shape.path.motion for shape in scene.shapes])
    looks.append([tuple(ends) for ends in (scene.areas[:, [0, -1]] > 0).tolist()])
    for values in looks:
        for n, value in enumerate(values):
            others = values[:n] + values[n + 1 :]
            if len(others) > 1 and len(set(others)) == 1 and value != others[0]:
                odd.add(n)
    return tuple(sorted(odd))


def _crossing(scene: Scene, first: bool) -> tuple[int, ...]:
    """Return the shapes out of sight at one end of the video, if all others are in sight there and all at the other."""
    visible = scene.areas > 0
    here, there = (visible[:, 0], visible[:, -1]) if first else (visible[:, -1], visible[:, 0])
    outside = [_is_outside(scene, n, 0 if first else -1) for n in range(len(scene.shapes))]
    hidden = np.flatnonzero(~here)
    return tuple(int(n) for n in hidden) if there.all() and all(outside[n] for n in hidden) else ()


def _is_outside(scene: Scene, n: int, time: int) -> bool:
    """Whether a shape is beyond the border, not behind another shape."""
    height, width = scene.labels.shape[1:]
    (x, y), r = scene.shapes[n].path.centres[time], scene.shapes[n].radii[time]
    return bool(x + r < 0 or y + r < 0 or x - r >= width or y - r >= height)


def _absent(scene: Scene, preset: Preset, rng: np.random.Generator) -> Expression:
    """Name a look that is not in the video; its colour or its form may be."""
    present = {(shape.colour, shape.form) for shape in scene.shapes}
    missing = [(c, f) for c in preset.colours for f in preset.forms if (c, f) not in present]
    colour, form = missing[int(rng.integers(len(missing)))]
    return Expression(f"the {colour} {form}", "absent", ())
