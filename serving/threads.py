"""Threads of the calls that are scored at the same time: together no more than there are cores."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Final, TypeVar

import torch

Action = Callable[[], None]
Result = TypeVar("Result")
SWITCH_SECONDS: Final = 0.0005
"""Longest time for which a thread keeps the interpreter from others beside work that gives way."""

NICENESS: Final = 10
"""Of work that gives way: where both want a core, a tenth of what others get."""


class Background:
    """A thread of lower priority: others get the cores first.

    It is always the same one. The allocators give each thread a part of the heap of its own; where
    large things come and go in a new thread each time, one part after the other keeps what was
    freed in it. Where priorities are not of threads, as anywhere but on Linux, it is the usual one.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "background", _give_way)

    def run(self, action: Callable[[], Result]) -> Result:
        """What an action gives or raises.

        Meanwhile no thread keeps the interpreter for long when others want it: a call needs it
        dozens of times.
        """
        before = sys.getswitchinterval()
        sys.setswitchinterval(min(before, SWITCH_SECONDS))
        try:
            return self._thread.submit(action).result()
        finally:
            sys.setswitchinterval(before)

    def close(self) -> None:
        """End the thread, once it is done."""
        self._thread.shutdown(wait=False)


def _give_way() -> None:
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = max(os.getpriority(os.PRIO_PROCESS, thread), NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


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
        with self._counted() as busy:
            threads = max(1, self._cores // busy)
            torch.set_num_threads(threads)
            yield threads

    @contextmanager
    def beside_calls(self) -> Iterator[None]:
        """Compute in one thread meanwhile, for work that must not hold up the calls beside it."""
        before = torch.get_num_threads()
        with self._counted():
            torch.set_num_threads(1)
            try:
                yield
            finally:
                torch.set_num_threads(before)

    @contextmanager
    def _counted(self) -> Iterator[int]:
        """Be one of those that compute; gives how many they are."""
        with self._lock:
            self._busy += 1
            busy = self._busy
        try:
            yield busy
        finally:
            with self._lock:
                self._busy -= 1


class Workers:
    """The threads that score: few, and always the same.

    A thread that computes keeps memory, caches and helper threads of its own. gRPC's threads, of
    which there is one for each call that waits, compute nothing.

    Args:
        count: calls that are scored at the same time.
        plan: of the cores that this process may use.
    """

    def __init__(self, count: int, plan: ThreadPlan) -> None:
        self._plan = plan
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
