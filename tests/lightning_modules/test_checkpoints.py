"""Checkpoints on disk: whole or not there, and found again."""

import errno
import logging
import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_modules.checkpoints import AtomicCheckpointIO, is_whole, newest_whole, seal, write_checkpoint
from lightning_modules.random_states import random_states, restore_random_states

CPU = torch.device("cpu")
SAVED = {"weight": torch.arange(50_000.0), "step": 3}


@pytest.fixture
def small_files() -> Iterator[None]:
    """Inside, no file may grow beyond 100 kB, as on a disk that runs full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "made" / "step-00000003.ckpt"
    files = AtomicCheckpointIO()
    files.save_checkpoint(SAVED, file)
    read = files.load_checkpoint(file, weights_only=True)
    assert torch.equal(read["weight"], SAVED["weight"])
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_full_disk_costs_the_checkpoint_and_nothing_else(
    tmp_path: Path, small_files: None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "best.ckpt"
    write_checkpoint({"step": 1}, file)
    before = file.read_bytes()
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        write_checkpoint(SAVED, file)
    AtomicCheckpointIO().save_checkpoint(SAVED, file)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "was not written: " in caplog.text
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_is_no_tensor_is_an_error(tmp_path: Path) -> None:
    """Only the disk's refusals are survived: a fault of the program stops it."""
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"function": lambda: 0}, tmp_path / "step-1.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 22, 500, 100_000, 200_000])
def test_a_truncated_file_is_not_whole(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "step-00000001.ckpt"
    write_checkpoint(SAVED, file)
    assert is_whole(file)
    file.write_bytes(file.read_bytes()[:-cut])
    assert not is_whole(file)
    with pytest.raises(ValueError, match="but it is cut short"):
        AtomicCheckpointIO().load_checkpoint(file)


def test_a_missing_or_empty_file_is_not_whole(tmp_path: Path) -> None:
    assert not is_whole(tmp_path / "missing")
    (tmp_path / "empty").touch()
    assert not is_whole(tmp_path / "empty")


def shards(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/rank0.pt").write_bytes(b"12345")
    (folder / "rank1.pt").write_bytes(b"123")
    return folder


def test_a_folder_is_whole_when_it_is_sealed(tmp_path: Path) -> None:
    folder = shards(tmp_path / "step-00000002.ckpt")
    assert not is_whole(folder)
    seal(folder)
    assert is_whole(folder)
    (folder / "later.txt").touch()
    assert is_whole(folder)


@pytest.mark.parametrize("name", ["deep/rank0.pt", "rank1.pt", "manifest.json"])
@pytest.mark.parametrize("content", [b"1", None], ids=["shorter", "missing"])
def test_a_folder_with_a_broken_part_is_not_whole(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = shards(tmp_path / "step-00000002.ckpt")
    seal(folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content[: -1 if name == "manifest.json" else None])
    assert not is_whole(folder)


def test_the_newest_whole_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_whole(tmp_path) is None
    for step in (9, 10, 100):
        write_checkpoint({"step": step}, tmp_path / f"step-{step}.ckpt")
    write_checkpoint({}, tmp_path / "best.ckpt")
    assert newest_whole(tmp_path) == tmp_path / "step-100.ckpt"
    assert caplog.records == []
    (tmp_path / "step-100.ckpt").write_bytes(b"PK")
    shards(tmp_path / "step-200.ckpt")
    assert newest_whole(tmp_path) == tmp_path / "step-10.ckpt"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    for record, broken in zip(caplog.records, ("step-200.ckpt", "step-100.ckpt"), strict=True):
        assert f"{broken}' is cut short" in record.message
        assert f"'{tmp_path / 'step-10.ckpt'}'" in record.message


def test_none_whole_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "step-1.ckpt").touch()
    (tmp_path / "step-2.ckpt").touch()
    with pytest.raises(ValueError, match=r"but all 2 are cut short, from 'step-2\.ckpt' on"):
        newest_whole(tmp_path)


def draw() -> list[float]:
    return [random.random(), random.gauss(), np.random.rand(), np.random.randn(), torch.rand(()).item()]


@pytest.mark.parametrize("spare", [False, True], ids=["no spare normal", "a spare normal"])
def test_random_states_survive_a_checkpoint(tmp_path: Path, spare: bool) -> None:
    """Box and Muller give normals in pairs; the second waits in the state."""
    if spare:
        draw()
    else:
        random.seed(1)
        np.random.seed(1)
    of_ranks = {name: torch.stack([torch.zeros_like(state), state]) for name, state in random_states(CPU).items()}
    write_checkpoint(of_ranks, tmp_path / "file")
    expected = [draw() for _ in range(3)]
    assert expected[0] != expected[1]
    read = torch.load(tmp_path / "file", weights_only=True)
    restore_random_states({name: states[1] for name, states in read.items()}, CPU)
    assert [draw() for _ in range(3)] == expected
