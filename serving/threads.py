"""Threads of the calls that are scored at the same time: together no more than there are cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch


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
