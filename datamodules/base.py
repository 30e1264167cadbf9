"""Datasets in, loaders out."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.dataset import VideoDataset
from datamodules.loader import DrawSampler, VideoLoader
from datamodules.structures import VideoSample


class VideoDataModule(LightningDataModule):
    """The datasets of an experiment. A batch is a ``list[VideoSample]``.

    The order of training is a function of (seed, epoch), the same for any number of workers, and a restart in mid-epoch
    goes on with the next batch. Over several ranks each has its share; samples that are repeated to make the shares
    equal carry ``meta["repeated"]``, so that a metric can leave them out. Datasets are not read before `setup`. While a
    batch is used, a thread reads the next.

    Args:
        train: dataset to learn from, or several that are mixed as one.
        val: dataset for validation during ``fit``.
        test: dataset for ``test``.
        predict: dataset for ``predict``.
        batch_size: samples of a training batch, per rank.
        eval_batch_size: samples of any other batch, per rank; they hold whole videos.
        num_workers: processes per loader that read further ahead; 0 leaves all to a thread of the main one.
        shuffle: whether the training order is random.
        seed: source of the training order.
    """

    def __init__(
        self,
        train: VideoDataset | list[VideoDataset] | None = None,
        val: VideoDataset | None = None,
        test: VideoDataset | None = None,
        predict: VideoDataset | None = None,
        batch_size: int = 1,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ValueError(f"Expected `{name}` to be at least {least}, but got {value}")
        self.train = train if isinstance(train, list) else [train] if train is not None else []
        self.val, self.test, self.predict = val, test, predict
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.shuffle = shuffle
        self.seed = seed
        #: what loaders do ahead with each sample; set by whoever uses the samples, before loaders are made
        self.prepare: Callable[[VideoSample], None] | None = None

    def setup(self, stage: str) -> None:
        """Index the datasets of a stage, so that missing data is known before the model is built and workers share it.

        Raises:
            DatasetNotFoundError: if a dataset is not there.
        """
        wanted = {
            "fit": [*self.train, self.val],
            "validate": [self.val],
            "test": [self.test],
            "predict": [self.predict],
        }
        for dataset in wanted[stage]:
            if dataset is not None:
                len(dataset)

    def train_dataloader(self) -> VideoLoader:
        """Return the batches of training."""
        return self._loader(self.train, "train", self.batch_size, self.shuffle)

    def val_dataloader(self) -> VideoLoader | list[VideoLoader]:
        """Return the batches of validation; without a dataset there are none."""
        return [] if self.val is None else self._loader([self.val], "val", self.eval_batch_size)

    def test_dataloader(self) -> VideoLoader:
        """Return the batches of the test."""
        return self._loader(_list(self.test), "test", self.eval_batch_size)

    def predict_dataloader(self) -> VideoLoader:
        """Return the batches to predict."""
        return self._loader(_list(self.predict), "predict", self.eval_batch_size)

    @property
    def skipped(self) -> Counter[str]:
        """Number of bad samples left out so far on this rank, by reason."""
        datasets = [*self.train, *_list(self.val), *_list(self.test), *_list(self.predict)]
        return sum((dataset.skipped for dataset in datasets), Counter())

    def state_dict(self) -> dict[str, list[dict[str, int]]]:
        """Return how many samples of each training dataset were left out, by reason."""
        return {"skipped": [dict(dataset.skipped) for dataset in self.train]}

    def load_state_dict(self, state_dict: dict[str, list[dict[str, int]]]) -> None:
        """Go on counting, if it is to go on training."""
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        for dataset, skipped in zip(self.train, state_dict["skipped"], strict=False):
            dataset.skipped = Counter(skipped)

    def _loader(self, datasets: list[VideoDataset], name: str, batch_size: int, shuffle: bool = False) -> VideoLoader:
        if not datasets:
            raise ValueError(
                f"Expected a dataset in `{name}` of {type(self).__name__}, but got none; set `data.{name}`"
            )
        trainer: Any = self.trainer
        rank, world_size = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        overfit = trainer is not None and trainer.overfit_batches > 0
        length = sum(len(dataset) for dataset in datasets)
        sampler = DrawSampler(length, self.seed, shuffle and not overfit, rank, world_size)
        return VideoLoader(datasets, sampler, batch_size, self.num_workers, self.prepare)


def _list(dataset: VideoDataset | None) -> list[VideoDataset]:
    return [] if dataset is None else [dataset]
