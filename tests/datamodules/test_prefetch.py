"""Reading ahead changes when something is read, and nothing else."""

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import BadSampleError, ReVOS, VideoDataModule, loader
from datamodules.prefetch import prefetch
from tests.builders import write_revos
from tests.datamodules.test_base import drawn, fit, train

ROOT = Path(__file__).parent.parent.parent
LONG = 60  # seconds in which whatever is waited for has surely come


def reading(*items):
    """A function that returns or raises one item after the other, then None."""
    left = iter(items)

    def read():
        item = next(left, None)
        if isinstance(item, BaseException):
            raise item
        return item

    return read


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    for thread in readers():
        thread.join(LONG)
    assert readers() == []


@pytest.fixture
def unraisable(monkeypatch):
    """What went wrong where nobody could be told."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    return seen


# --- one item ahead ----------------------------------------------------------------------------------------------


def test_items_come_in_order_from_one_other_thread():
    threads = []
    items = reading(*"abc")

    def read():
        threads.append(threading.current_thread())
        return items()

    assert list(prefetch(read)) == ["a", "b", "c"]
    assert len(threads) == 4
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert list(prefetch(reading())) == []


def test_one_item_is_read_while_another_is_used_and_no_more():
    begun = [threading.Event() for _ in range(5)]
    calls = []

    def read():
        number = len(calls)
        calls.append(number)
        begun[number].set()
        return number if number < 4 else None

    for item in prefetch(read):
        assert begun[item + 1].wait(LONG)
        assert len(calls) == item + 2


def test_nothing_is_read_before_the_first_item_is_wanted():
    calls = []
    iterator = prefetch(lambda: calls.append(1))
    assert calls == []
    assert readers() == []
    assert list(iterator) == []
    assert calls == [1]


@pytest.mark.parametrize("error", [ValueError("here"), KeyboardInterrupt(), StopIteration()], ids=repr)
def test_an_exception_comes_in_its_place(error):
    iterator = prefetch(reading("a", "b", error))
    assert [next(iterator), next(iterator)] == ["a", "b"]
    # what a generator lets out as StopIteration would look like its end
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        next(iterator)
    assert list(iterator) == []


def test_an_exception_keeps_nothing():
    class Held:
        def __call__(self):
            raise ValueError("here")

    held = Held()
    alive = weakref.ref(held)
    gc.disable()
    try:
        with pytest.raises(ValueError, match="here"):
            next(prefetch(held))
        del held
        assert alive() is None
    finally:
        gc.enable()


def test_whoever_stops_early_does_not_wait():
    under_way, go_on = threading.Event(), threading.Event()
    items = reading("a")

    def read():
        item = items()
        if item is None:
            under_way.set()
            assert go_on.wait(LONG)
        return item

    for _ in prefetch(read):
        assert under_way.wait(LONG)
        break
    (thread,) = readers()
    go_on.set()
    thread.join(LONG)
    assert not thread.is_alive()


def test_an_interrupt_while_waiting():
    go_on = threading.Event()

    def read():
        os.kill(os.getpid(), signal.SIGINT)
        assert go_on.wait(LONG)

    with pytest.raises(KeyboardInterrupt):
        next(prefetch(read))
    go_on.set()


def test_a_generator_that_its_own_thread_collects(unraisable):
    items, collected = reading("a", "b"), threading.Event()
    dropped = threading.Event()

    def read():
        item = items()
        if item == "b":
            assert dropped.wait(LONG)
            gc.collect()
            collected.set()
        return item

    gc.disable()
    try:
        ring = [prefetch(read)]
        ring.append(ring)
        next(ring[0])
        del ring
        dropped.set()
        assert collected.wait(LONG)
    finally:
        gc.enable()
    assert unraisable == []


def test_a_fork_waits_for_a_read_and_its_child_can_read(unraisable):
    begun, forked, order = threading.Event(), threading.Event(), []

    def read():
        begun.set()
        forked.wait(0.5)  # in vain
        order.append("read")

    iterator = prefetch(read)
    waiting = threading.Thread(target=lambda: list(iterator))
    waiting.start()
    assert begun.wait(LONG)
    child = os.fork()
    if child == 0:
        signal.alarm(LONG)
        os._exit(list(prefetch(reading("a", "b"))) != ["a", "b"])
    order.append("forked")
    forked.set()
    assert os.waitpid(child, 0)[1] == 0
    waiting.join(LONG)
    assert order == ["read", "forked"]
    assert unraisable == []


def test_a_program_may_end_in_the_middle():
    program = "from prefetch import prefetch; items = prefetch(lambda: 1); next(items)"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT / "datamodules", capture_output=True, text=True, timeout=LONG)
    assert (done.returncode, done.stderr) == (0, "")


# --- the loader --------------------------------------------------------------------------------------------------


def plain(read):
    yield from iter(read, None)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_revos(tmp_path_factory.mktemp("revos"), videos=("a", "b", "c"))


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    root = write_revos(tmp_path_factory.mktemp("torn"), videos=("a", "b", "c"))
    (root / "JPEGImages/b/00003.jpg").write_bytes(b"torn")
    return root


def trace(batches, start=None):
    """All that can be seen of an epoch: batches, states, counts, and how it ends."""
    if start is not None:
        batches.load_state_dict(start)
    seen = []
    try:
        for batch in batches:
            seen.append((drawn(batch), batches.state_dict(), dict(batches.skipped)))
    except (BadSampleError, ValueError) as error:
        seen.append((repr(error), batches.state_dict(), dict(batches.skipped)))
    return seen


def refuse(sample):
    if sample.key == "c/1":
        raise ValueError(f"Expected another sample than {sample.key}")


@pytest.mark.parametrize("end", ["break", "bad sample", "prepare"])
def test_workers_end_with_the_iteration(root, torn, end):
    data = VideoDataModule(ReVOS(torn if end == "bad sample" else root), batch_size=3, shuffle=False, num_workers=1)
    data.prepare = refuse
    gc.disable()
    try:
        if end == "break":
            next(iter(data.train_dataloader()))
        else:
            with pytest.raises((BadSampleError, ValueError), match=r"b/0|c/1"):
                list(data.train_dataloader())
        for thread in readers():
            thread.join(LONG)
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()


def look(sample):
    sample.frames.stack()


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("start", [None, {"epoch": 0, "batch": 2}], ids=["whole", "resumed"])
@pytest.mark.parametrize("on_bad_sample", [None, "skip", "error"])
@pytest.mark.parametrize("prepare", [None, look, refuse])
def test_reading_ahead_changes_nothing(monkeypatch, root, torn, num_workers, start, on_bad_sample, prepare):
    traces = []
    for way in (prefetch, plain):
        monkeypatch.setattr(loader, "prefetch", way)
        options = {"on_bad_sample": on_bad_sample} if on_bad_sample else {}
        data = VideoDataModule(
            ReVOS(torn if on_bad_sample else root, **options), batch_size=2, shuffle=False, num_workers=num_workers
        )
        data.prepare = prepare
        traces.append(trace(data.train_dataloader(), start))
    assert traces[0] == traces[1]
    ends_early = prepare is refuse or on_bad_sample == "error"
    assert isinstance(traces[0][-1][0], str) == ends_early


@pytest.mark.parametrize("num_workers", [0, 1])
def test_reading_leaves_every_global_generator_alone(root, num_workers):
    data = VideoDataModule(train(root), num_workers=num_workers)
    data.prepare = look
    states = []
    for _ in range(2):
        states.append((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()))
        list(data.train_dataloader())
    assert states[0] == states[1]


def test_the_state_counts_what_was_handed_out(root):
    prepared = [threading.Event() for _ in range(9)]
    data = VideoDataModule(train(root), shuffle=False)
    data.prepare = lambda sample: prepared["abc".index(sample.video_id) * 3 + int(sample.expression_id)].set()
    batches = data.train_dataloader()
    for number, _ in enumerate(batches):
        assert number == 8 or prepared[number + 1].wait(LONG)
        assert batches.state_dict() == {"epoch": 0, "batch": number + 1}


def test_a_bad_sample_is_counted_when_its_batch_is_handed_out(torn, monkeypatch):
    was_read = [threading.Event() for _ in range(4)]

    def announced(read):
        left = iter(was_read)

        def read_and_tell():
            batch = read()
            next(left).set()
            return batch

        return prefetch(read_and_tell)

    monkeypatch.setattr(loader, "prefetch", announced)
    data = VideoDataModule(ReVOS(torn, on_bad_sample="skip"), batch_size=3, shuffle=False)
    seen = []
    for number, batch in enumerate(data.train_dataloader()):
        assert was_read[number + 1].wait(LONG)
        seen.append((len(batch), sum(data.skipped.values())))
    assert seen == [(3, 0), (0, 3), (3, 3)]


@pytest.mark.parametrize("bad", [3, 5])
def test_a_bad_frame_is_found_where_it_is_looked_at(tmp_path, bad):
    root = write_revos(tmp_path, videos=("a", "b"))
    (root / f"JPEGImages/b/{bad:05d}.jpg").write_bytes(b"torn")
    data = VideoDataModule(ReVOS(root), batch_size=3, shuffle=False)
    data.prepare = lambda sample: sample.frames.at(3)
    iterator = iter(data.train_dataloader())
    assert [sample.key for sample in next(iterator)] == ["a/0", "a/1", "a/2"]
    if bad == 3:
        with pytest.raises(BadSampleError, match=r"'b/0'.*JPEGImages/b/00003.jpg"):
            next(iterator)
    else:
        assert [set(sample.frames._slices) for sample in next(iterator)] == [{3}] * 3


def test_what_is_prepared_is_what_is_handed_out(root):
    prepared = []
    data = VideoDataModule(train(root), batch_size=2, num_workers=1)
    data.prepare = prepared.append
    handed = [sample for batch in data.train_dataloader() for sample in batch]
    assert list(map(id, prepared)) == list(map(id, handed))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_training_that_ends_in_mid_epoch_ends_the_thread(root, tmp_path, num_workers, unraisable, recwarn):
    data = VideoDataModule(train(root), val=ReVOS(root, "valid"), batch_size=2, num_workers=num_workers)
    seen = fit(root, tmp_path, 2, datamodule=data)
    assert len(seen) == 2
    assert unraisable == []
    assert [str(warning.message) for warning in recwarn if "thread" in str(warning.message).lower()] == []
