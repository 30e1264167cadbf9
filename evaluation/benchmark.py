"""The numbers of predictions that lie on disk, by the protocol of a benchmark."""

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.errors import BadSampleError
from evaluation.journal import Journal
from evaluation.predictions import Predictions, open_predictions
from evaluation.predictions.files import file_stamp
from evaluation.protocols import BenchmarkProtocol
from evaluation.results import Evaluation
from evaluation.scoring import Outcome, Scorer, Unit
from evaluation.video_metrics import VideoMetrics

#: wraps what is measured, of which there will be so many, to show how far it is
Progress = Callable[[Iterable[Outcome], int], Iterable[Outcome]]

#: file below the output folder in which results are kept as they come
ROWS = "rows.jsonl"
#: most units that a thread takes at a time
_BATCH = 16


def evaluate(
    dataset: VideoDataset,
    predictions_path: Path,
    protocol: BenchmarkProtocol,
    workers: int = 1,
    out: Path | None = None,
    progress: Progress = lambda outcomes, total: outcomes,
) -> Evaluation:
    """Measure predictions against a dataset.

    What is missing, broken or unknown is named and scored by the protocol's rule. Expressions whose annotation is
    broken are listed, and count nowhere. Neither the number of workers nor an interruption changes any number.

    Args:
        dataset: the benchmark; masks and frames are read as it says, its frame selection is not used.
        predictions_path: a folder, a ZIP file or a ``results.json``; see `open_predictions`.
        protocol: how it is measured.
        workers: threads; what takes time (inflating, packing, measuring) runs outside of Python's lock.
        out: folder that keeps each result as it comes; a second call goes on from there if nothing has changed.
        progress: shows how far it is.

    Raises:
        FileNotFoundError: if there are no predictions.
        ValueError: if anything else speaks against it; see `open_checked`.
    """
    predictions = open_checked(dataset, predictions_path, protocol, workers, out)
    return measure(dataset, predictions, protocol, workers, out, progress)


def open_checked(
    dataset: VideoDataset,
    predictions_path: Path,
    protocol: BenchmarkProtocol,
    workers: int = 1,
    out: Path | None = None,
) -> Predictions:
    """Return the predictions that are to be measured; whatever a user may have mistaken is found here.

    Args:
        dataset: the benchmark.
        predictions_path: as `evaluate` takes it, like the following.
        protocol: how it will be measured.
        workers: threads.
        out: folder that will keep the results.

    Raises:
        FileNotFoundError: if there are no predictions, or no dataset.
        ValueError: if the dataset's masks are hidden, it has groups that the protocol does not know, or the predictions
            are of no known layout, or about no video of the dataset; if there is to be no thread; or if results would
            be written among the predictions.
    """
    if workers < 1:
        raise ValueError(f"Expected at least 1 worker, but got {workers}")
    if out is not None and out.resolve().is_relative_to(predictions_path.resolve()):
        raise ValueError(
            f"Expected a folder for results outside of the predictions in `{predictions_path}`, which they would "
            f"change, but got `{out}`"
        )
    for group in {record.group for record in dataset.index}:
        protocol.row(group)
    _expect_masks(dataset)
    if protocol.together:
        _expect_one_object(dataset, type(protocol).__name__)
    return open_predictions(predictions_path, dataset.index)


def measure(
    dataset: VideoDataset,
    predictions: Predictions,
    protocol: BenchmarkProtocol,
    workers: int,
    out: Path | None,
    progress: Progress,
) -> Evaluation:
    """Measure predictions that `open_checked` has opened.

    Args:
        dataset: as `evaluate` takes it, like the following.
        predictions: what is measured.
        protocol: how it is measured.
        workers: threads.
        out: folder that keeps each result as it comes.
        progress: shows how far it is.
    """
    scorer = Scorer(dataset, predictions, protocol)
    units = protocol.units(dataset.index)
    with Journal(None if out is None else out / ROWS, _identity(dataset, predictions, protocol)) as journal:
        outcomes = journal.done
        left = [number for number in range(len(units)) if number not in outcomes]
        for outcome in progress(_score(scorer, units, left, workers), len(left)):
            journal.add(outcome)
            outcomes[outcome.unit] = outcome
    return _evaluation(dataset, predictions, protocol, outcomes.values())


def _expect_masks(dataset: VideoDataset) -> None:
    for record in dataset.index:
        try:
            if dataset.masks(record) is not None:
                return
        except BadSampleError:  # it will be named when its turn comes
            return
    raise ValueError(
        f"Expected masks, but {type(dataset).__name__} hides those of split {dataset.split!r}: its server measures "
        "them; `thinkseg submit` writes what it takes"
    )


def _expect_one_object(dataset: VideoDataset, protocol: str) -> None:
    for record in dataset.index:
        with suppress(BadSampleError):
            masks = dataset.masks(record)
            if masks is not None and masks.num_objects != 1:
                raise ValueError(
                    f"Expected one object for each expression, as {protocol} measures several together, but got "
                    f"{masks.num_objects} for {record.key!r}: it is not the protocol of {type(dataset).__name__}"
                )


def _score(scorer: Scorer, units: Sequence[Unit], numbers: Sequence[int], workers: int) -> Iterator[Outcome]:
    """Yield the outcome of each unit as it is there; an error comes after everything that was finished before it."""
    if workers == 1:
        yield from (scorer(number, units[number]) for number in numbers)
        return
    errors = []
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(_score_batch, scorer, units, batch) for batch in _batches(units, numbers)]
        try:
            for future in as_completed(futures):
                if future.cancelled():
                    continue
                outcomes, error = future.result()
                yield from outcomes
                if error is not None:
                    errors.append(error)
                    for other in futures:  # those that are at work come to their end
                        other.cancel()
        finally:
            pool.shutdown(cancel_futures=True)
    if errors:
        raise errors[0]


def _score_batch(
    scorer: Scorer, units: Sequence[Unit], numbers: Sequence[int]
) -> tuple[list[Outcome], Exception | None]:
    """Return the outcomes of some units up to the first that raises, and its error."""
    outcomes: list[Outcome] = []
    try:
        for number in numbers:
            outcomes.append(scorer(number, units[number]))
    except Exception as error:  # raised again where what was finished is safe
        return outcomes, error
    return outcomes, None


def _batches(units: Sequence[Unit], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield what one thread does in a row: units of one video, which share annotations."""
    batch: list[int] = []
    for number in numbers:
        if batch and (len(batch) == _BATCH or units[number][0].video_id != units[batch[0]][0].video_id):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _evaluation(
    dataset: VideoDataset, predictions: Predictions, protocol: BenchmarkProtocol, outcomes: Iterable[Outcome]
) -> Evaluation:
    """Return what was found, added up in the order of the dataset: not as it came."""
    outcomes = list(outcomes)
    by_key = {result.key: result for outcome in outcomes for result in outcome.results}
    results = [by_key[record.key] for record in dataset.index]
    metrics = VideoMetrics(protocol)
    for result in results:
        if result.counted:
            metrics.add(result.group, result.row)
    encodings = {encoding for outcome in outcomes for encoding in outcome.encodings}
    setting = _dataset_setting(dataset) | protocol.setting() | predictions.setting(encodings)
    return Evaluation(setting, protocol.columns, metrics.table(), results, predictions.surplus(dataset.index))


def _dataset_setting(dataset: VideoDataset) -> dict[str, str]:
    groups = {} if dataset.groups is None else {"groups": ", ".join(dataset.groups)}
    return {"dataset": type(dataset).__name__, "root": str(dataset.root), "split": dataset.split} | groups


def _identity(dataset: VideoDataset, predictions: Predictions, protocol: BenchmarkProtocol) -> dict[str, str]:
    """Return what every number hangs on.

    JSONs of the dataset and files of the predictions are known by size and time of change. Pictures of an annotation
    are taken as they were: the masks of a benchmark do not change.
    """
    files = sorted({*dataset.files, *dataset.root.glob("*.json")})
    return {
        "thinkseg": _version(),
        **_dataset_setting(dataset),
        "dataset files": ", ".join(f"{path.name}: {file_stamp(path)}" for path in files if path.is_file()),
        "expressions": _digest(dataset.index),
        "protocol": type(protocol).__name__,
        "options": _options(vars(protocol)),
        **predictions.setting(),
        "prediction files": predictions.stamp(),
    }


def _version() -> str:
    try:
        return importlib.metadata.version("thinkseg")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _options(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in sorted(options.items()))


def _digest(records: Sequence[VideoRecord]) -> str:
    digest = hashlib.sha256()
    for record in records:
        names = (record.video_id, record.expression_id, record.expression, record.group)
        digest.update(f"{names!r}{record.frame_names!r}{record.scored!r}".encode())
    return digest.hexdigest()
