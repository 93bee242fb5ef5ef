"""The calls under way: counted, so that the server can refuse new ones and wait for the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from recsys.errors import UnavailableError


class CallsUnderWay:
    """Counts calls from their first byte read to their answer written; for several threads."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._count = 0
        self._closed = False

    def __len__(self) -> int:
        """Calls under way."""
        return self._count

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a call for as long as the block runs.

        Raises:
            UnavailableError: no new calls are taken any more.
        """
        with self._changed:
            if self._closed:
                raise UnavailableError("the server is stopping; call another one")
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Take no new calls."""
        with self._changed:
            self._closed = True

    def wait(self, seconds: float) -> bool:
        """Wait until none is under way, so long at most; whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, seconds)
