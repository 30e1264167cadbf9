"""How long does it take to evaluate predictions for a benchmark of the size of MeViS valid_u, and in how much memory?

    python benchmarks/evaluate.py --json evaluate.json

`thinkseg evaluate` reads run-length codes or PNGs, on one thread and on several; the peer ``per_expression`` does what
the benchmarks' scripts do: for each expression it decodes every mask, and measures J and F by the DAVIS formula. It is
given some expressions only, and its time is extrapolated. The dataset is synthetic, 480 x 854 pixels, in the layout of
MeViS with a picture per video. Memory is the PSS of the process, sampled; it is read from ``/proc`` (Linux).
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from benchmarks.harness import alone, command_line, finish, pss, show
from benchmarks.jf import decoded, official_counts
from datamodules.mevis import MeViS
from evaluation.benchmark import evaluate
from evaluation.predictions import open_predictions
from evaluation.protocols import MeViSProtocol
from evaluation.scoring import Scorer

PEER = "per_expression"
SIZE = (480, 854)
#: as in MeViS valid_u: 50 videos
EXPRESSIONS_PER_VIDEO, OBJECTS_PER_VIDEO = 16, 6
#: different masks, of which tracks are made
BLOBS = 24


# --- the dataset and its predictions -----------------------------------------------------------------------------


def write_benchmark(root: Path, expressions: int, frames: int, pictures: bool) -> None:
    """Write a MeViS and predictions for it, as ``results.json`` and as PNGs; what is there already is kept.

    Args:
        root: folder for ``mevis``, ``results.json`` and ``png``.
        expressions: how many.
        frames: of each video.
        pictures: write PNGs too.
    """
    if (root / "results.json").exists():
        return
    folder = root / "mevis" / "valid_u"
    names = [f"{frame:05d}" for frame in range(frames)]
    videos, tracks, results = {}, {}, {}
    for video in range(-(-expressions // EXPRESSIONS_PER_VIDEO)):
        name = f"{video:012x}"
        (folder / "JPEGImages" / name).mkdir(parents=True)
        Image.new("RGB", SIZE[::-1]).save(folder / "JPEGImages" / name / f"{names[0]}.jpg")
        for number in range(OBJECTS_PER_VIDEO):
            tracks[str(video * OBJECTS_PER_VIDEO + number)] = [rle((at(number, t),), 0) for t in range(frames)]
        said = {}
        for number in range(min(EXPRESSIONS_PER_VIDEO, expressions - video * EXPRESSIONS_PER_VIDEO)):
            objects = [number % OBJECTS_PER_VIDEO, *([0] if number % 5 == 4 else [])]
            ids = [video * OBJECTS_PER_VIDEO + each for each in objects]
            said[str(number)] = {"exp": f"the {number}th that turns", "obj_id": objects, "anno_id": ids}
            shown = [tuple(at(each, t) for each in objects) for t in range(frames)]
            masks = [rle(blobs, 1 + number % 3) for blobs in shown]
            results.setdefault(name, {})[str(number)] = {"prediction_masks": masks, "frames": names}
            if pictures:
                write_pictures(root / "png" / name / str(number), names, shown, 1 + number % 3)
        videos[name] = {"frames": names, "expressions": said}
    (folder / "meta_expressions.json").write_text(json.dumps({"videos": videos}))
    (folder / "mask_dict.json").write_text(json.dumps(tracks))
    (root / "results.json").write_text(json.dumps(results))


def write_pictures(folder: Path, names: list[str], shown: list[tuple[int, ...]], shift: int) -> None:
    """Write the masks of an expression as PNGs."""
    folder.mkdir(parents=True)
    for name, blobs in zip(names, shown, strict=True):
        (folder / f"{name}.png").write_bytes(png(blobs, shift))


def at(number: int, frame: int) -> int:
    """Return which of the blobs an object is at a frame."""
    return (5 * number + frame) % BLOBS


@cache
def blob(number: int, shift: int) -> np.ndarray:
    """Return the mask of a ragged ellipse, ``bool (480, 854)``; with a shift, as somebody predicts it."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    top, left = generator.uniform(0.25, 0.75, 2) * SIZE + 2 * shift
    height, width = generator.uniform(30, 110), generator.uniform(30, 160)
    lobes, depth = generator.integers(3, 20) + shift, generator.uniform(0.1, 0.3)
    ragged = 1 + depth * np.sin(np.arctan2(y - top, x - left) * lobes)
    return ((y - top) / height) ** 2 + ((x - left) / width) ** 2 < ragged


@cache
def union(blobs: tuple[int, ...], shift: int) -> np.ndarray:
    """Return what several blobs cover, ``bool (480, 854)``."""
    return np.any([blob(number, shift) for number in blobs], axis=0)


@cache
def rle(blobs: tuple[int, ...], shift: int) -> dict:
    """Return the run-length code of blobs."""
    code = coco.encode(np.asfortranarray(union(blobs, shift), np.uint8))
    return {"size": list(SIZE), "counts": code["counts"].decode("ascii")}


@cache
def png(blobs: tuple[int, ...], shift: int) -> bytes:
    """Return the mask of blobs as a PNG of 0 and 255."""
    buffer = BytesIO()
    Image.fromarray(union(blobs, shift).astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


# --- the peer ----------------------------------------------------------------------------------------------------


def per_expression(root: Path, expressions: int) -> dict:
    """Evaluate the first expressions as a benchmark's script does: decode all of one, then measure frame by frame.

    Returns:
        A row of the result.
    """
    started, before = time.perf_counter(), time.process_time()
    folder = root / "mevis" / "valid_u"
    videos = json.loads((folder / "meta_expressions.json").read_text())["videos"]
    tracks = json.loads((folder / "mask_dict.json").read_text())
    results = json.loads((root / "results.json").read_text())
    opened, parsed = time.perf_counter() - started, time.process_time() - before
    wanted = [(video, number) for video, content in videos.items() for number in content["expressions"]]
    means = []
    started, before = time.perf_counter(), time.process_time()
    for video, number in wanted[:expressions]:
        ids = videos[video]["expressions"][number]["anno_id"]
        predicted = [decoded(code) for code in results[video][number]["prediction_masks"]]
        annotated = [
            np.any([decoded(tracks[str(each)][frame]) for each in ids], axis=0) for frame in range(len(predicted))
        ]
        means.append(float(np.mean([score(*counts) for counts in official_counts(predicted, annotated)])))
    times = len(wanted) / len(means)
    return {
        "seconds": opened + times * (time.perf_counter() - started),
        "cpu_seconds": parsed + times * (time.process_time() - before),
        "first": means[:4],
    }


def score(intersection: int, union: int, pred: int, target: int, pred_near: int, target_near: int) -> float:
    """Return (J + F) / 2 of a frame whose masks are not empty, from the counts of the DAVIS formula."""
    precision, recall = pred_near / pred, target_near / target
    return float((intersection / union + 2 * precision * recall / (precision + recall)) / 2)


# --- the measurement ---------------------------------------------------------------------------------------------


class Memory(threading.Thread):
    """Samples the PSS of this process until it is stopped, in 10^6 bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples = [pss(os.getpid())]
        self._end = threading.Event()

    def run(self) -> None:
        """Sample ten times a second."""
        while not self._end.wait(0.1):
            self.samples.append(pss(os.getpid()))

    def stop(self) -> list[float]:
        """Return the samples, at least two."""
        self._end.set()
        self.join()
        return [*self.samples, pss(os.getpid())]


def ours(root: Path, source: str, workers: int) -> dict:
    """Evaluate everything, and measure time and memory.

    Args:
        root: of `write_benchmark`.
        source: ``rle`` or ``png``.
        workers: threads.

    Returns:
        A row of the result.
    """
    warm(root, source)
    memory = Memory()
    memory.start()
    started, before = time.perf_counter(), time.process_time()
    evaluation = evaluate(MeViS(root / "mevis", "valid_u"), place(root, source), MeViSProtocol(), workers)
    seconds, used = time.perf_counter() - started, time.process_time() - before
    samples = memory.stop()
    half = len(samples) // 2
    frames = sum(len(result.frame_names) for result in evaluation.results)
    return {
        "source": source,
        "workers": workers,
        "seconds": seconds,
        "cpu_seconds": used,
        "frame_ms": 1e3 * seconds / frames,
        "before_mb": samples[0],
        "first_half_mb": max(samples[:half]),
        "second_half_mb": max(samples[half:]),
        "JF": evaluation.table["overall"]["JF"],
        "first": [(result.row["J"] + result.row["F"]) / 2 for result in evaluation.results[:4]],
    }


def decoding(root: Path, source: str) -> dict:
    """Read every prediction on one thread, and measure none."""
    warm(root, source)
    dataset = MeViS(root / "mevis", "valid_u")
    started, before = time.perf_counter(), time.process_time()
    predictions = open_predictions(place(root, source), dataset.index)
    for record in dataset.index:
        predictions.read(record, range(len(record.frame_names)), SIZE)
    seconds, used = time.perf_counter() - started, time.process_time() - before
    frames = sum(len(record.frame_names) for record in dataset.index)
    return {"source": source, "seconds": seconds, "cpu_seconds": used, "frame_ms": 1e3 * seconds / frames}


def place(root: Path, source: str) -> Path:
    """Return where predictions are."""
    return root / {"rle": "results.json", "png": "png"}[source]


def warm(root: Path, source: str) -> None:
    """Do what a process does once: index what is parsed, and load the compiled loops."""
    dataset = MeViS(root / "mevis", "valid_u")
    predictions = open_predictions(place(root, source), dataset.index)
    Scorer(dataset, predictions, MeViSProtocol())(0, (dataset.index[0],))


def measure(root: Path, arguments: argparse.Namespace) -> Iterator[dict]:
    """Yield the rows of the result, each from a new process."""
    sources = ["rle", *(["png"] if arguments.png else [])]
    yield {"what": PEER} | alone(per_expression, root, arguments.peer_expressions)
    yield from ({"what": "decode"} | alone(decoding, root, source) for source in sources)
    for source in sources:
        for number in sorted({1, arguments.workers}):
            yield {"what": "evaluate"} | alone(ours, root, source, number)


def main(words: list[str] | None = None) -> dict:
    """Measure, print rows and the ratio, and write JSON.

    Args:
        words: words of the command line; by default those of the process.

    Returns:
        What is written.
    """
    arguments = parse(words)
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        alone(write_benchmark, root, arguments.expressions, arguments.frames, arguments.png)
        rows = show(measure(root, arguments))
    one = next(row for row in rows if row["what"] == "evaluate")
    ratio = rows[0]["cpu_seconds"] / one["cpu_seconds"]
    print(f"processor time on one thread from run-length codes, {PEER} over ours: {ratio:.1f}")
    setting = {
        "expressions": arguments.expressions,
        "frames": arguments.frames,
        "size": SIZE,
        "peer_expressions": arguments.peer_expressions,
    }
    return finish(arguments.json, "evaluate", setting, {PEER: ratio}, rows)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = command_line(__doc__, PEER)
    parser.add_argument("--expressions", type=int, default=793)
    parser.add_argument("--frames", type=int, default=80, help="of each video")
    parser.add_argument("--workers", type=int, default=2, help="threads, beside one")
    parser.add_argument("--peer_expressions", type=int, default=8, help="expressions that the peer measures")
    parser.add_argument("--png", action=argparse.BooleanOptionalAction, default=True, help="measure PNGs too")
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
