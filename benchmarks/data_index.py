"""What does a dataset of ReVOS' size cost in time and memory, per loader worker?

    python benchmarks/data_index.py --json data_index.json

Its masks are read through `datamodules.json_index`, and by the peer ``json_per_worker``: `json.loads` of the whole file
in each process that reads masks. The dataset is synthetic, in the true layout of ReVOS but without pictures. Memory is
the sum of PSS over the process and its workers, so that what they share counts once; it is read from ``/proc`` (Linux).
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import alone, command_line, finish, pss, show
from datamodules.dataset import read_json
from datamodules.json_index import open_index
from datamodules.masks import encode_rle
from datamodules.revos import ReVOS

PEER = "json_per_worker"
#: as in ReVOS: 34 expressions and 9 annotated objects a video
EXPRESSIONS_PER_VIDEO, OBJECTS_PER_VIDEO = 34, 9
SIZE = (720, 1280)


class JSONPerWorker(ReVOS):
    """ReVOS, whose masks are parsed as a whole by each process that reads them."""

    @property
    def mask_dicts(self):
        """None is indexed."""
        return []

    def track(self, path, name, record):
        """Return the masks of one object."""
        return read_json(path)[name]


class Nothing(JSONPerWorker):
    """ReVOS, whose masks are not read: what the processes cost anyway."""

    def track(self, path, name, record):
        """Return no masks."""
        return [None] * len(record.frame_names)


READERS = {"nothing": Nothing, "index": ReVOS, PEER: JSONPerWorker}


# --- the dataset -------------------------------------------------------------------------------------------------


def write_dataset(root: Path, expressions: int, megabytes: float) -> None:
    """Write the files of a ReVOS of that size, with memory for one object.

    Args:
        root: its folder; what is there already is kept.
        expressions: how many, all in the training split.
        megabytes: least size of ``mask_dict.json``, in 10^6 bytes; videos are as long as that needs.
    """
    if (root / "mask_dict.json").exists():
        return
    generator = np.random.default_rng(0)
    pool = [json.dumps(encode_rle(blob(generator))) for _ in range(32)]
    videos = -(-expressions // EXPRESSIONS_PER_VIDEO)
    visible = 0.85
    per_frame = visible * statistics.mean(map(len, pool)) + (1 - visible) * len("null") + len(", ")
    frames = int(1.02 * megabytes * 1e6 / (videos * OBJECTS_PER_VIDEO * per_frame)) + 1
    (root / "JPEGImages").mkdir(parents=True)
    with (root / "mask_dict.part").open("w") as file:
        for annotation in range(videos * OBJECTS_PER_VIDEO):
            cells = [pool[number] for number in generator.integers(len(pool), size=frames)]
            seen = generator.random(frames) < visible
            track = ", ".join(cell if there else "null" for cell, there in zip(cells, seen, strict=True))
            file.write(f'{", " if annotation else "{"}"{annotation}": [{track}]')
        file.write("}")
    metas = dict(meta(generator, video, frames, expressions) for video in range(videos))
    (root / "meta_expressions_train_.json").write_text(json.dumps({"videos": metas}))
    (root / "mask_dict.part").rename(root / "mask_dict.json")


def blob(generator: np.random.Generator) -> torch.Tensor:
    """Return the mask of a ragged ellipse, ``bool (720, 1280)``."""
    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    top, left = generator.uniform(0.2, 0.8, 2) * SIZE
    ragged = 1 + 0.2 * np.sin(np.arctan2(y - top, x - left) * generator.integers(3, 40)) * generator.random()
    inside = ((y - top) / generator.uniform(40, 160)) ** 2 + ((x - left) / generator.uniform(40, 240)) ** 2 < ragged
    return torch.from_numpy(inside)


def meta(generator: np.random.Generator, video: int, frames: int, expressions: int) -> tuple[str, dict]:
    """Return name and record of a video, as ReVOS' JSON of expressions has them."""
    said = {}
    for number in range(min(EXPRESSIONS_PER_VIDEO, expressions - video * EXPRESSIONS_PER_VIDEO)):
        objects = generator.choice(OBJECTS_PER_VIDEO, generator.integers(1, 4), replace=False)
        said[str(number)] = {
            "exp": f"the {number}th of those that turn towards the camera before the others have left",
            "obj_id": objects.tolist(),
            "anno_id": (objects + video * OBJECTS_PER_VIDEO).tolist(),
            "type_id": number % 2,
        }
    names = [f"{time:05d}" for time in range(frames)]
    record = {"vid_id": video, "height": SIZE[0], "width": SIZE[1], "frames": names, "expressions": said}
    return f"synthetic/train/{video:08x}", record


# --- the measurement ---------------------------------------------------------------------------------------------


class Tracks(Dataset):
    """How long it takes to read the first object's masks of an expression, in seconds."""

    def __init__(self, dataset: ReVOS) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> float:
        record = self.dataset.index[index]
        started = time.perf_counter()
        track = self.dataset.track(self.dataset.masks_path, record.annotation[0], record)
        assert len(track) == len(record.frame_names)
        return time.perf_counter() - started


def read(reader: str, root: Path, workers: int, tracks: int) -> dict:
    """Read masks in loader workers, and measure while they live.

    Args:
        reader: one of ``READERS``.
        root: folder of the dataset.
        workers: number of loader workers; 0 reads in this process.
        tracks: objects that each worker reads.

    Returns:
        A row of the result.
    """
    dataset = READERS[reader](root)
    len(dataset)
    before = memory()
    order = np.random.default_rng(0).permutation(len(dataset))
    sampler = np.resize(order, tracks * max(workers, 1)).tolist()
    loader = DataLoader(
        Tracks(dataset),
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )
    started = time.perf_counter()
    seconds = [float(second) for second in loader]
    wall = time.perf_counter() - started
    return {
        "reader": reader,
        "workers": workers,
        "before_mb": before,
        "memory_mb": memory(),
        "first_s": max(seconds),
        "track_ms": 1e3 * statistics.median(seconds),
        "wall_s": wall,
    }


def memory() -> float:
    """Return the PSS of this process, of its workers, and of the process it was forked from, in 10^6 bytes."""
    processes = [os.getppid(), os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    return sum(pss(process) for process in processes)


def opened(reader: str, path: Path) -> dict:
    """Return how long it takes to open the masks, and the memory this adds, most and at last."""
    before, peak_before = memory(), peak()
    started = time.perf_counter()
    content = read_json(path) if reader == PEER else open_index(path)
    seconds = time.perf_counter() - started
    return {
        "reader": reader,
        "open_s": seconds,
        "entries": len(content),
        "added_mb": memory() - before,
        "added_at_peak_mb": peak() - peak_before,
    }


def peak() -> float:
    """Return the most memory this process has had, in 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1.024e-3 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def measure(root: Path, workers: int, tracks: int) -> Iterator[dict]:
    """Yield the rows of the result, each from a new process."""
    path = root / "mask_dict.json"
    path.with_name(f"{path.name}.index").unlink(missing_ok=True)
    yield {"what": "first open"} | alone(opened, "index", path)
    for reader in ("index", PEER):
        yield {"what": "open"} | alone(opened, reader, path)
    for reader in READERS:
        for number in (0, workers):
            yield {"what": "read"} | alone(read, reader, root, number, tracks)


def main(words: list[str] | None = None) -> dict:
    """Measure, print a table and the ratio, and write JSON.

    Args:
        words: words of the command line; by default those of the process.

    Returns:
        What is written.
    """
    arguments = parse(words)
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary, "revos")
        alone(write_dataset, root, arguments.expressions, arguments.megabytes)
        rows = show(measure(root, arguments.workers, arguments.tracks))
        size = (root / "mask_dict.json").stat().st_size
    used = {(row["reader"], row["workers"]): row["memory_mb"] for row in rows if row["what"] == "read"}
    ratio = used[PEER, arguments.workers] / used["index", arguments.workers]
    print(f"memory with {arguments.workers} workers, {PEER} over index: {ratio:.1f}")
    setting = {
        "expressions": arguments.expressions,
        "mask_dict_bytes": size,
        "workers": arguments.workers,
        "tracks_per_worker": arguments.tracks,
    }
    return finish(arguments.json, "data_index", setting, {PEER: ratio}, rows)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = command_line(__doc__, PEER)
    parser.add_argument("--expressions", type=int, default=35_000)
    parser.add_argument("--megabytes", type=float, default=400, help="least size of mask_dict.json")
    parser.add_argument("--workers", type=int, default=8, help="loader workers, beside none")
    parser.add_argument("--tracks", type=int, default=200, help="objects that each worker reads")
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
