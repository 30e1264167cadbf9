"""From datasets to batches, in an order that resumes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from datamodules.dataset import VideoDataset
from datamodules.errors import BadSampleError
from datamodules.prefetch import prefetch
from datamodules.structures import LazyStack, VideoSample

#: A sample or what is wrong with it, behind the number of its dataset.
Drawn = tuple[int, VideoSample | BadSampleError]


@dataclass(frozen=True)
class Draw:
    """What a loader asks of its datasets: sample ``index``, as it is in ``epoch``.

    ``repeated`` marks the samples that are drawn twice so that every rank has as many.
    """

    index: int
    epoch: int
    repeated: bool = False


class DrawSampler(Sampler[Draw]):
    """The order of an epoch: a function of (seed, epoch), dealt to the ranks in turn.

    Where the number of samples is no multiple of ``world_size``, the first of the order are repeated, so that every
    rank takes as many steps.

    Args:
        length: number of samples.
        seed: source of the order, with the epoch.
        shuffle: whether the order is random; otherwise it is that of the index.
        rank: which share to yield.
        world_size: number of shares.
    """

    def __init__(self, length: int, seed: int = 0, shuffle: bool = True, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        #: how many draws of this rank's share the next iteration leaves out
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        epoch, order = self.epoch, np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        for position in range(self.rank, len(self) * self.world_size, self.world_size)[self.start :]:
            yield Draw(int(order[position % self.length]), epoch, position >= self.length)


class VideoLoader:
    """Batches of samples, ``list[VideoSample]``, that go on in mid-epoch after a restart.

    While a batch is used, a thread reads the next and prepares its samples, with any number of workers.

    Bad samples are raised, or dropped and counted, as the dataset they come from says, when their batch is handed out;
    so a batch may be smaller than ``batch_size``, even empty. Workers decode the frames of their samples; without
    workers nothing is decoded but what ``prepare`` looks at.

    It is no ``DataLoader``, so Lightning leaves its order alone; like one, it has a ``sampler`` whose epoch Lightning
    sets, and a state that Lightning stores.

    Args:
        datasets: read one after the other, as one.
        sampler: the order.
        batch_size: number of samples of a batch.
        num_workers: number of processes that read ahead; 0 reads in this one.
        prepare: does ahead, in the thread, what will be done first with a sample, and keeps it with the sample.
    """

    def __init__(
        self,
        datasets: Sequence[VideoDataset],
        sampler: DrawSampler,
        batch_size: int = 1,
        num_workers: int = 0,
        prepare: Callable[[VideoSample], None] | None = None,
    ) -> None:
        self.datasets = datasets
        self.sampler = sampler
        #: Lightning asks whoever has a sampler for this too
        self.batch_sampler = None
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.prepare = prepare
        self._batch = 0
        self._resume: dict[str, int] = {}

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    @property
    def skipped(self) -> Counter[str]:
        """Number of samples left out since the datasets were made, by reason."""
        return sum((dataset.skipped for dataset in self.datasets), Counter())

    def __iter__(self) -> Iterator[list[VideoSample]]:
        # the body runs at the first `next`, when Lightning has set the epoch and loaded the state
        resume, self._resume = self._resume, {}
        self._batch = resume.get("batch", 0) if resume.get("epoch") == self.sampler.epoch else 0
        self.sampler.start = self._batch * self.batch_size
        loader: DataLoader[Any] = DataLoader(
            _Pool(self.datasets),
            self.batch_size,
            sampler=self.sampler,
            num_workers=self.num_workers,
            collate_fn=list,
            # the global generator is the policy's: reading must not advance it
            generator=torch.Generator(),
        )
        # `iter` forks workers, in this thread: in another, nothing would tell torch when one of them dies
        with closing(prefetch(partial(self._read, iter(loader)))) as read_ahead:
            for batch in read_ahead:
                self._batch += 1
                yield list(self._usable(batch))

    def state_dict(self) -> dict[str, int]:
        """Return how far the epoch has been read, in batches that were handed out."""
        # a validation that comes before the first batch after a restart may lead to a checkpoint
        return dict(self._resume) or {"epoch": self.sampler.epoch, "batch": self._batch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where ``state_dict`` was taken, if the next iteration is of the same epoch."""
        self._resume = dict(state_dict)

    def _read(self, batches: Iterator[list[Drawn]]) -> list[Drawn] | None:
        """Return the next batch, prepared, or None after the last; this is what the thread does."""
        batch = next(batches, None)
        return None if batch is None else [(number, self._prepared(sample)) for number, sample in batch]

    def _prepared(self, sample: VideoSample | BadSampleError) -> VideoSample | BadSampleError:
        if self.prepare is None or isinstance(sample, BadSampleError):
            return sample
        try:
            self.prepare(sample)
        except BadSampleError as error:  # of a frame, which is read here and not when the sample is drawn
            return error
        return sample

    def _usable(self, batch: list[Drawn]) -> Iterator[VideoSample]:
        for number, sample in batch:
            if isinstance(sample, BadSampleError):
                self.datasets[number].leave_out(sample)
            else:
                yield sample


class _Pool(Dataset[Drawn]):
    """Several datasets as one, from a draw to the number of its dataset and the sample, or what is wrong with it.

    An error crosses from a worker as a value: the policy for bad samples and their count live in the main process.
    """

    def __init__(self, datasets: Sequence[VideoDataset]) -> None:
        self.datasets = datasets

    def __getitem__(self, draw: Draw) -> Drawn:
        number, index = 0, draw.index
        while index >= len(self.datasets[number]):
            index -= len(self.datasets[number])
            number += 1
        try:
            sample = self.datasets[number].draw(index, draw.epoch)
            if get_worker_info() is not None:
                sample.frames = LazyStack.of(sample.frames.stack())
        except BadSampleError as error:
            return number, error
        if draw.repeated:
            sample.meta["repeated"] = True
        return number, sample
