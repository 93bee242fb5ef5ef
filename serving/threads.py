"""Threads of the calls that are scored at the same time: together no more than there are cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import torch

Action = Callable[[], None]


class ThreadPlan:
    """Gives a call the cores that other calls leave: all to one alone, one each to many.

    A call keeps what it got when it began. More threads than cores would wait for each other at
    every step.

    Args:
        cores: that this process may use.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._busy = 0
        self._lock = Lock()

    @contextmanager
    def share(self) -> Iterator[int]:
        """Set the number of torch's threads for the calling thread; gives that number."""
        with self._lock:
            self._busy += 1
            threads = max(1, self._cores // self._busy)
        torch.set_num_threads(threads)
        try:
            yield threads
        finally:
            with self._lock:
                self._busy -= 1


class Workers:
    """The threads that score: few, and always the same.

    A thread that computes keeps memory, caches and helper threads of its own. gRPC's threads, of
    which there is one for each call that waits, compute nothing.

    Args:
        count: calls that are scored at the same time.
        cores: that this process may use.
    """

    def __init__(self, count: int, cores: int) -> None:
        self._plan = ThreadPlan(cores)
        self._threads = ThreadPoolExecutor(count, "worker")

    def start(self, action: Action, following: Callable[[], Action | None]) -> None:
        """Run an action in a worker's thread, then those that `following` gives, until it has none.

        Between two of them no other thread has to wake up.

        Args:
            action: must not raise.
            following: gives the next action, if there is one.
        """
        self._threads.submit(self._work, action, following)

    def close(self) -> None:
        """End the threads, those that score once they are done."""
        self._threads.shutdown(wait=False)

    def _work(self, action: Action | None, following: Callable[[], Action | None]) -> None:
        while action is not None:
            with self._plan.share():
                action()
            action = following()
