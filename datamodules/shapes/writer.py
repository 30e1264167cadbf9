"""The toy benchmark on disk: a true ReVOS or MeViS tree, and conversations for supervised training."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.shapes.expressions import draw_expressions
from datamodules.shapes.scenes import PRESETS, draw_scene
from datamodules.shapes.trees import MeViSTree, ReVOSTree, Tree

_TREES: dict[str, type[Tree]] = {"revos": ReVOSTree, "mevis": MeViSTree}


def write_shapes(
    root: Path,
    videos: int = 1000,
    seed: int = 0,
    valid_videos: int = 100,
    preset: Literal["easy", "full"] = "full",
    objects: int | None = None,
    num_frames: int = 6,
    size: int | tuple[int, int] = 112,
    sampled_frames: int = 3,
    layout: Literal["revos", "mevis"] = "revos",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write the toy benchmark: videos of moving shapes with sentences, masks and chains of thought.

    A video is a function of the seed, its split, its number and the options that shape it, so a larger benchmark
    begins with the videos of a smaller one. JSON files are written after the last frame, each in one move: a tree
    without them was interrupted and may be written again.

    Args:
        root: folder to create, e.g. ``data/shapes``.
        videos: number of training videos.
        seed: the only source of chance.
        valid_videos: number of held-out videos.
        preset: ``easy`` for a model of a million parameters (4 colours, 2 forms, distinct colours), or ``full``.
        objects: number of shapes of every video; by default the preset's own.
        num_frames: length of every video.
        size: height and width of the frames in pixels, or one number for both.
        sampled_frames: most frames of a conversation, drawn as ``StridedThroughAnchor`` draws as many for training.
        layout: the benchmark whose tree is imitated. MeViS has no absent targets and does not tell reasoning from
            referring; its ``valid`` split is ``valid_u`` without annotation.
        progress: called after each video with the number of videos written and their total.

    Returns:
        How many there are, by name: ``train/videos``, ``train/referring``, ``train/conversations`` …

    Raises:
        FileExistsError: if ``root`` already holds a benchmark.
        ValueError: if an option is out of range or the shapes do not fit the frames.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check(videos, valid_videos, 1 if objects is None else objects, num_frames, min(height, width), sampled_frames)
    tree = _TREES[layout](Path(root), sampled_frames)
    tree.check_new()
    counts: Counter[str] = Counter()
    # One stream of chance per split and video: neither depends on how many others there are.
    names = [("train", 0, index) for index in range(videos)] + [("valid", 1, index) for index in range(valid_videos)]
    for done, (split, stream, index) in enumerate(names, start=1):
        rng = np.random.default_rng([seed, stream, index])
        scene = draw_scene(PRESETS[preset], objects, num_frames, (height, width), rng)
        counts.update(tree.add(split, index, scene, draw_expressions(scene, PRESETS[preset], rng)))
        if progress is not None:
            progress(done, len(names))
    tree.close()
    return dict(counts)


def _check(videos: int, valid_videos: int, objects: int, num_frames: int, size: int, sampled_frames: int) -> None:
    for name, value in locals().items():
        if value < 1:
            raise ValueError(f"Expected `{name}` to be at least 1, but got {value}")
