"""Stops asking what keeps failing, and lets a single call try again from time to time."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock


class CircuitBreaker:
    """Counts failures in a row; from `failures` on it is open, until a call succeeds.

    While it is open, one call in `pause_seconds` may try; how that one ends decides. The pattern is
    that of Nygard, Release It! (2007). Safe for calls from several threads, none of which waits for
    what another one has asked.

    Args:
        failures: in a row, that open it.
        pause_seconds: from opening to the first try, and between two tries.
        clock: seconds, never backwards.
    """

    def __init__(self, failures: int, pause_seconds: float, clock: Callable[[], float]) -> None:
        self._failures = failures
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._lock = Lock()
        self._in_a_row = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are turned away."""
        return self._in_a_row >= self._failures

    def may_try(self) -> bool:
        """Whether the caller may ask now; if so, it has to tell how that ended."""
        with self._lock:
            if not self.is_open:
                return True
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + self._pause_seconds
            return True

    def succeeded(self) -> None:
        """What was asked has answered."""
        with self._lock:
            self._in_a_row = 0

    def failed(self) -> None:
        """What was asked has not answered, or not in time."""
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row == self._failures:
                self._next_try = self._clock() + self._pause_seconds
