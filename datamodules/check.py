"""What of a dataset is there, missing or broken."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby

from datamodules.dataset import VideoDataset, VideoRecord
from datamodules.errors import BadSampleError, DatasetNotFoundError

#: how many findings of each kind a report shows
EXAMPLES = 10


@dataclass
class Finding:
    """How often something was found, and the first ten messages about it."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(message)


@dataclass
class Report:
    """The outcome of `check`; as text, a table.

    Args:
        dataset: what was checked.
        counts: what is there, by name.
        problems: samples that cannot be used, and files that are missing, by kind.
        notes: what is unusual but usable, by kind.
    """

    dataset: str
    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[str, Finding] = field(default_factory=dict)
    notes: dict[str, Finding] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def problem(self, kind: str, message: str) -> None:
        """Add a problem."""
        self.problems.setdefault(kind, Finding()).add(message)

    def note(self, kind: str, message: str) -> None:
        """Add a note."""
        self.notes.setdefault(kind, Finding()).add(message)

    def __str__(self) -> str:
        lines = [self.dataset, *(f"  {name:<28}{count:>10,}" for name, count in self.counts.items())]
        for title, findings in (("problems", self.problems), ("notes", self.notes)):
            lines.append(f"{title}: {sum(finding.count for finding in findings.values()):,}")
            for kind, finding in findings.items():
                lines.append(f"  {kind:<28}{finding.count:>10,}")
                lines += [f"    - {example}" for example in finding.examples]
                if finding.count > len(finding.examples):
                    lines.append(f"    - ... and {finding.count - len(finding.examples):,} more")
        return "\n".join([*lines, "ok" if self.ok else "not ok"])


def check(dataset: VideoDataset, progress: Callable[[Iterable[VideoRecord]], Iterable[VideoRecord]] = iter) -> Report:
    """Walk a dataset: decode every frame, check every mask, and draw every sample once.

    Args:
        dataset: the dataset; its policy for bad samples is not used.
        progress: wraps the expressions that are walked over, to show how far it is (``tqdm`` fits).

    Returns:
        What is there, missing or broken.
    """
    report = Report(f"{type(dataset).__name__} in {dataset.root}, split {dataset.split}")
    try:
        index = dataset.index
    except DatasetNotFoundError as error:
        report.problem("missing file", str(error))
        return report
    except ValueError as error:
        report.problem("malformed file", str(error))
        return report
    for key, count in Counter(record.key for record in index).items():
        if count > 1:
            report.problem("name twice", f"{key!r}")
    walk = enumerate(progress(index))
    for _, records in groupby(walk, key=lambda numbered: (numbered[1].video_id, numbered[1].frame_names)):
        for first, (number, record) in enumerate(records):
            if first == 0:
                _check_video(dataset, record, report)
            _check_expression(dataset, number, record, report)
    return report


def _check_video(dataset: VideoDataset, record: VideoRecord, report: Report) -> None:
    report.counts["videos"] += 1
    try:
        frames = dataset.frames(record)
    except BadSampleError as error:
        report.problem(error.reason, str(error))
        return
    for time in range(len(frames)):
        report.counts["frames"] += 1
        try:
            frames(time)
        except BadSampleError as error:
            report.problem(error.reason, str(error))
    try:
        void = dataset.void(record)
        if void is not None:
            report.counts["frames with void"] += sum(area > 0 for area in void.masks.areas())
    except BadSampleError as error:
        report.problem(error.reason, str(error))


def _check_expression(dataset: VideoDataset, number: int, record: VideoRecord, report: Report) -> None:
    report.counts["expressions"] += 1
    if record.group is not None:
        report.counts[f"expressions, {record.group}"] += 1
    if record.scored is not None:
        report.counts["scored frames"] += len(record.scored)
    try:
        masks = dataset.masks(record)
        if masks is not None:
            report.counts["annotated objects"] += masks.num_objects
            visible = sum(area > 0 for area in masks.areas())
            report.counts["annotated frames"] += visible
            if not visible and record.group != "absent":
                report.note("target never visible", f"{record.key!r}: {record.expression!r}")
        dataset.draw(number, epoch=0)
    except BadSampleError as error:
        report.problem(error.reason, str(error))
