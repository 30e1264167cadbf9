"""Which layout predictions have."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from datamodules.dataset import VideoRecord
from evaluation.predictions.annotators import AnnotatorTree
from evaluation.predictions.base import Predictions, named
from evaluation.predictions.files import Archive, Files, Folder, join
from evaluation.predictions.results_json import ResultsJSON
from evaluation.predictions.tree import PictureTree
from evaluation.predictions.vicas import ViCaSFiles

#: folders in which benchmarks, and ``thinkseg predict``, put their pictures
_INNER = ("Annotations", "masks")


def open_predictions(path: Path, records: Sequence[VideoRecord]) -> Predictions:
    """Return the predictions at a path, of whichever layout fits the dataset.

    Pictures may lie in ``Annotations`` or ``masks``, and everything in one folder that is alone.

    Args:
        path: a folder, a ZIP file, or a ``results.json``.
        records: expressions of the dataset.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is of no known layout, or about no video of the dataset, or if two expressions have one place.
    """
    if twice := [name for name, count in Counter(record.key for record in records).items() if count > 1]:
        raise ValueError(f"Expected a name of its own for each expression of the dataset, but got twice {named(twice)}")
    if not path.exists():
        raise FileNotFoundError(f"Expected predictions at `{path}`, but there is nothing")
    found = list(_candidates(path))
    for predictions in found:
        if predictions.fits(records):
            return predictions
    raise ValueError(
        f"Expected predictions about videos of the dataset, such as {records[0].video_id!r}, in `{path}` "
        f"({' or '.join(dict.fromkeys(each.layout for each in found))}), but found none"
    )


def _candidates(path: Path) -> Iterator[PictureTree | ViCaSFiles | ResultsJSON]:
    if path.is_dir():
        files: Files = Folder(path)
    elif zipfile.is_zipfile(path):
        files = Archive(path)
    else:
        yield ResultsJSON(path)
        return
    for base in _bases(files):
        yield AnnotatorTree(files, base)
        yield PictureTree(files, base)
        yield ViCaSFiles(files, base)


def _bases(files: Files) -> Iterator[str]:
    """Yield the folders in which videos may lie."""
    yield from ("", *_INNER)
    wrapping = files.folders("")
    if len(wrapping) == 1:
        (outer,) = wrapping
        yield from (outer, *(join(outer, inner) for inner in _INNER))
