"""How many calls are scored, and how many may wait, at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

import grpc

from recsys.errors import DeadlineError, OverloadedError


class Admission:
    """Lets a limited number of calls score, a limited number wait, and refuses the others at once.

    Args:
        scoring: calls that score at the same time.
        waiting: calls that wait for their turn.
        max_wait_seconds: longest wait, also for calls with a later deadline or none.
    """

    def __init__(self, scoring: int, waiting: int, max_wait_seconds: float) -> None:
        self._places = BoundedSemaphore(scoring + waiting)
        self._turns = BoundedSemaphore(scoring)
        self._max_wait_seconds = max_wait_seconds

    @contextmanager
    def turn(self, call: grpc.ServicerContext) -> Iterator[None]:
        """Hold a worker; a call that was cancelled or expired while it waited never gets one.

        Raises:
            OverloadedError: all places are taken, or no worker became free in time.
            DeadlineError: the call was cancelled or ran out of time before its turn.
        """
        if not self._places.acquire(blocking=False):
            raise OverloadedError("the server is at its limit of calls; try again later")
        try:
            self._wait(call)
            try:
                if not call.is_active() or call.time_remaining() <= 0:
                    raise DeadlineError("the call ended before its turn")
                yield
            finally:
                self._turns.release()
        finally:
            self._places.release()

    def _wait(self, call: grpc.ServicerContext) -> None:
        left = call.time_remaining()  # infinite for a call without a deadline
        if self._turns.acquire(timeout=min(left, self._max_wait_seconds)):
            return
        if left <= self._max_wait_seconds:
            raise DeadlineError("the call's time ran out before its turn")
        raise OverloadedError("no worker became free in time; try again later")
