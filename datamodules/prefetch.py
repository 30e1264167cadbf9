"""One item ahead: the next is read while the last is used."""

import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from threading import RLock
from typing import TypeVar

Item = TypeVar("Item")

# A forked process (a worker of another loader, say) has no thread that would unlock what the reader has locked: forks
# wait for the read that is under way.
_READING = RLock()
os.register_at_fork(before=_READING.acquire, after_in_parent=_READING.release, after_in_child=_READING.release)


def prefetch(read: Callable[[], Item | None]) -> Generator[Item, None, None]:
    """Yield what ``read`` returns until that is None; a thread reads the next item while one is used.

    What ``read`` raises is raised where its item would have come. The thread ends with the generator: when that is
    exhausted or closed, or when the program ends, after the read that is under way.

    Args:
        read: called by the thread, once for each item.
    """

    def undisturbed() -> Item | None:
        with _READING:
            return read()

    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    ahead = reader.submit(undisturbed)
    try:
        while (item := ahead.result()) is not None:
            ahead = reader.submit(undisturbed)
            yield item
    finally:
        del ahead  # what it raised has this frame in its traceback: a cycle would keep all that `read` holds
        # The garbage collector closes generators wherever it happens to run, even in the thread itself: do not wait.
        reader.shutdown(wait=False)
