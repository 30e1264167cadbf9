"""How many checkpoints are kept, and what a full disk costs."""

import logging
import resource
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from lightning_modules.callbacks import RecentCheckpoint
from lightning_modules.checkpoints import is_whole


class Walker(LightningModule):
    """Takes a step of its own in each batch; its checkpoint has 200 kB."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(50_000))

    def training_step(self, batch, batch_idx):
        self.optimizers().zero_grad()
        self.manual_backward(self.weight.sum())
        self.optimizers().step()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def walk(folder: Path, steps: int, every: int = 1, checkpoint: str | None = None, **kwargs) -> Walker:
    module = Walker()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        default_root_dir=folder,
        logger=False,
        callbacks=[RecentCheckpoint(every_n_steps=every)],
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )
    trainer.fit(module, DataLoader(torch.zeros(10, 1), batch_size=1), ckpt_path=checkpoint, weights_only=True)
    return module


def names(folder: Path) -> list[str]:
    assert all(is_whole(path) for path in (folder / "checkpoints").iterdir())
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("every", "kept"),
    [(1, [6, 7]), (2, [6, 7]), (5, [5, 7]), (50, [7])],
    ids=["every step", "every other", "every fifth", "the last"],
)
def test_the_newest_two_are_kept(tmp_path: Path, every: int, kept: list[int]) -> None:
    walk(tmp_path, 7, every)
    assert names(tmp_path) == [f"step-{step:08d}.ckpt" for step in kept]


def test_a_full_disk_costs_the_checkpoints_and_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    walk(tmp_path, 3)
    before = names(tmp_path)
    assert before == ["step-00000002.ckpt", "step-00000003.ckpt"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # no file may grow beyond 100 kB
    try:
        module = walk(tmp_path, 5, checkpoint="last")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert module.weight.unique().tolist() == [-5]
    assert names(tmp_path) == before
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "step-00000004.ckpt' was not written" in errors[0]
    assert walk(tmp_path, 5, checkpoint="last").weight.unique().tolist() == [-5]
    assert names(tmp_path) == ["step-00000004.ckpt", "step-00000005.ckpt"]


def test_going_back_moves_what_came_later_away(tmp_path: Path) -> None:
    walk(tmp_path, 3)
    walk(tmp_path, 4, every=50, checkpoint=str(tmp_path / "checkpoints/step-00000002.ckpt"))
    assert names(tmp_path) == ["step-00000002.ckpt", "step-00000004.ckpt"]
    assert [path.name for path in (tmp_path / "checkpoints.1").iterdir()] == ["step-00000003.ckpt"]


def test_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    walk(tmp_path, 3)
    before = names(tmp_path)
    walk(tmp_path, 3, fast_dev_run=2)
    assert names(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_what_an_interrupted_write_left_is_removed(tmp_path: Path) -> None:
    walk(tmp_path, 2)
    (tmp_path / "checkpoints/.step-00000003.ckpt.1234.tmp").write_bytes(b"half")
    walk(tmp_path, 3, checkpoint="last")
    assert names(tmp_path) == ["step-00000002.ckpt", "step-00000003.ckpt"]


@pytest.mark.parametrize("wrong", [{"every_n_steps": 0}, {"keep": 1}], ids=str)
def test_wrong_numbers(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"Expected `{next(iter(wrong))}` to be at least"):
        RecentCheckpoint(**wrong)
