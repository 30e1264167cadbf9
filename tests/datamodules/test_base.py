"""Order, shares, restarts and workers of `VideoDataModule`."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import BadSampleError, DatasetNotFoundError, MeViS, ReVOS, StridedThroughAnchor, VideoDataModule
from datamodules.loader import DrawSampler
from tests.builders import write_mevis, write_revos


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_revos(tmp_path_factory.mktemp("revos"), videos=("a", "b", "c"))


def train(root, **arguments):
    return ReVOS(root, selection=StridedThroughAnchor(num_frames=2), **arguments)


def drawn(batch):
    """What was drawn, down to the pixels."""
    return [
        (sample.key, tuple(sample.frame_ids), int(sample.frames.stack().sum()), sample.masks.stack().nonzero().tolist())
        for sample in batch
    ]


def epochs(datamodule, count):
    loader = datamodule.train_dataloader()
    seen = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        seen.append([drawn(batch) for batch in loader])
    return seen


def keys(epoch):
    return [key for batch in epoch for key, *_ in batch]


# --- the order ---------------------------------------------------------------------------------------------------


def test_order_is_a_function_of_seed_and_epoch(root):
    first, second, third = epochs(VideoDataModule(train(root), batch_size=4), 3)
    assert [len(batch) for batch in first] == [4, 4, 1]
    assert sorted(keys(first)) == sorted(f"{video}/{number}" for video in "abc" for number in range(3))
    assert keys(first) != keys(second) != keys(third)
    assert epochs(VideoDataModule(train(root), batch_size=4), 3) == [first, second, third]
    assert keys(epochs(VideoDataModule(train(root), seed=1), 1)[0]) != keys(first)
    unshuffled = epochs(VideoDataModule(train(root), shuffle=False), 2)
    assert keys(unshuffled[0]) == keys(unshuffled[1]) == [f"{video}/{number}" for video in "abc" for number in range(3)]


def test_workers_change_nothing_but_where_frames_are_read(root):
    alone = epochs(VideoDataModule(train(root), batch_size=2), 2)
    assert epochs(VideoDataModule(train(root), batch_size=2, num_workers=2), 2) == alone
    with_workers = VideoDataModule(train(root), batch_size=2, num_workers=1).train_dataloader()
    (sample, *_), *_ = with_workers
    assert set(sample.frames._slices) == {0, 1}  # decoded there
    (sample, *_), *_ = VideoDataModule(train(root), batch_size=2).train_dataloader()
    assert not sample.frames._slices


def test_reading_leaves_the_global_generator_alone(root):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(VideoDataModule(train(root)).train_dataloader())
    assert torch.rand(1) == expected


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_an_epoch(world_size):
    shares = []
    for rank in range(world_size):
        sampler = DrawSampler(9, seed=3, rank=rank, world_size=world_size)
        sampler.set_epoch(5)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler) == -(-9 // world_size)
    draws = [draw for share in shares for draw in share]
    assert sorted(draw.index for draw in draws if not draw.repeated) == list(range(9))
    assert all(draw.epoch == 5 for draw in draws)
    # one after the other they are the order of one process
    alone = DrawSampler(9, seed=3)
    alone.set_epoch(5)
    dealt = [share[turn].index for turn in range(len(shares[0])) for share in shares]
    assert dealt[:9] == [draw.index for draw in alone]


def test_repeated_samples_are_marked(root):
    loader = VideoDataModule(test=ReVOS(root, "valid"), eval_batch_size=9).test_dataloader()
    loader.sampler.rank, loader.sampler.world_size = 1, 7
    (batch,) = loader  # positions 1 and 8 of 14, of which 12 and 13 repeat
    assert [sample.meta.get("repeated") for sample in batch] == [None, None]
    loader.sampler.rank = 6
    (batch,) = loader
    assert [sample.meta.get("repeated") for sample in batch] == [None, True]


def test_several_datasets(root, tmp_path):
    write_mevis(tmp_path)
    mixed = VideoDataModule([train(root), MeViS(tmp_path)], batch_size=4)
    batches = list(mixed.train_dataloader())
    names = [sample.meta["dataset"] for batch in batches for sample in batch]
    assert sorted(names) == ["MeViS"] * 6 + ["ReVOS"] * 9
    assert names != sorted(names)


# --- restarts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_loader_goes_on_in_mid_epoch(root, num_workers, stop):
    datamodule = VideoDataModule(train(root), batch_size=3, num_workers=num_workers)
    expected = epochs(datamodule, 3)
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(1)
    iterator = iter(loader)
    seen = [drawn(next(iterator)) for _ in range(stop)]
    state = loader.state_dict()
    again = datamodule.train_dataloader()
    again.load_state_dict(state)
    again.sampler.set_epoch(1)
    if stop:
        assert seen + [drawn(batch) for batch in again] == expected[1]
    again.sampler.set_epoch(2)
    assert [drawn(batch) for batch in again] == expected[2]


class Recorder(LightningModule):
    """Learns nothing, and remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, drawn(batch)))
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        assert batch[0].num_frames == 6

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(root, folder, max_steps, checkpoint=None, datamodule=None):
    model = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        default_root_dir=folder,
        logger=False,
        callbacks=[ModelCheckpoint(folder, filename="last", every_n_train_steps=1, enable_version_counter=False)],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    datamodule = datamodule or VideoDataModule(train(root), val=ReVOS(root, "valid"), batch_size=4)
    trainer.fit(model, datamodule, ckpt_path=checkpoint, weights_only=True)
    return model.seen


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_lightning_resumes(root, tmp_path, stop):
    """Seven steps are two epochs of three batches and one batch more; stop in mid-epoch, at its end, and after."""
    whole = fit(root, tmp_path / "whole", 7)
    assert [epoch for epoch, _ in whole] == [0, 0, 0, 1, 1, 1, 2]
    assert len({str(batch) for _, batch in whole}) == 7
    begun = fit(root, tmp_path / "part", stop)
    assert begun + fit(root, tmp_path / "part", 7, str(tmp_path / "part" / "last.ckpt")) == whole


# --- bad samples and arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_samples(tmp_path, num_workers):
    write_revos(tmp_path, videos=("a", "b", "c"))
    (tmp_path / "JPEGImages/b/00003.jpg").write_bytes(b"torn")
    tolerant = VideoDataModule(
        ReVOS(tmp_path, on_bad_sample="skip"), batch_size=3, shuffle=False, num_workers=num_workers
    )
    batches = [keys([drawn(batch)]) for batch in tolerant.train_dataloader()]
    assert batches == [["a/0", "a/1", "a/2"], [], ["c/0", "c/1", "c/2"]]
    assert tolerant.skipped == tolerant.train_dataloader().skipped == {"unreadable frame": 3}
    strict = VideoDataModule(ReVOS(tmp_path), batch_size=3, shuffle=False, num_workers=num_workers)
    with pytest.raises(BadSampleError, match=r"'b/0'.*JPEGImages/b/00003.jpg"):
        [drawn(batch) for batch in strict.train_dataloader()]


def test_the_count_of_bad_samples_resumes(tmp_path):
    root = write_revos(tmp_path / "data", videos=("a", "b", "c"))
    (tmp_path / "data/JPEGImages/b/00003.jpg").write_bytes(b"torn")
    begun, resumed = (VideoDataModule(ReVOS(root, on_bad_sample="skip"), batch_size=3) for _ in range(2))
    fit(root, tmp_path, 3, datamodule=begun)
    fit(root, tmp_path, 6, str(tmp_path / "last.ckpt"), datamodule=resumed)
    assert (begun.skipped, resumed.skipped) == ({"unreadable frame": 3}, {"unreadable frame": 6})


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_setup_finds_missing_data(tmp_path, stage):
    absent = ReVOS(tmp_path, "valid")
    datamodule = VideoDataModule(val=absent, test=absent, predict=absent)
    with pytest.raises(DatasetNotFoundError, match="ReVOS"):
        datamodule.setup(stage)


def test_missing_datasets():
    datamodule = VideoDataModule()
    datamodule.setup("fit")
    for name in ("train", "test", "predict"):
        with pytest.raises(ValueError, match=rf"a dataset in `{name}` of VideoDataModule.*`data.{name}`"):
            getattr(datamodule, f"{name}_dataloader")()
    assert datamodule.val_dataloader() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size`"),
        ({"eval_batch_size": 0}, "`eval_batch_size`"),
        ({"num_workers": -1}, "`num_workers`"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        VideoDataModule(**arguments)
