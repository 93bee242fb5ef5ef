"""Threads that answer at the same time take turns at Python, and leave the turn for native code.

CPython runs one thread at a time. numpy and torch let another one run during each of their calls,
most of which take microseconds, and a switch between threads takes longer than that: two threads
that both are between such calls slow each other down. In turns, one computes in Python while the
others are in native code for milliseconds, where they need no turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import Final

MAX_WAIT_SECONDS: Final = 0.1
"""Turns only make threads quicker: after so long, one goes on without."""


class Turns:
    """Gives one thread at a time the turn; threads that don't ask for it are not held up.

    Args:
        max_wait_seconds: a thread that waited so long goes on without the turn.
    """

    def __init__(self, max_wait_seconds: float = MAX_WAIT_SECONDS) -> None:
        self._max_wait_seconds = max_wait_seconds
        self._lock = Lock()
        self._own = local()

    @property
    def is_mine(self) -> bool:
        """Whether this thread has the turn."""
        return getattr(self._own, "has", False)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the turn; a block in another one, of the same thread, changes nothing."""
        if self.is_mine:
            yield
            return
        self._take()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def left(self) -> Iterator[None]:
        """Let others have the turn meanwhile, and take it again; nothing for a thread without."""
        if not self.is_mine:
            yield
            return
        self._leave()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        self._own.has = self._lock.acquire(timeout=self._max_wait_seconds)

    def _leave(self) -> None:
        if self.is_mine:
            self._own.has = False
            self._lock.release()


TURNS: Final = Turns()
"""Of this process, as its interpreter is."""
