"""How many calls are scored, and how many may wait, at the same time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from threading import Event, Lock
from typing import Final

import grpc

from recsys.errors import CallCancelledError, DeadlineError, OverloadedError

MIN_PUSHBACK_SECONDS: Final = 0.05
"""Shortest time that a refused caller is asked to wait."""

_NEWEST: Final = 0.1
"""Weight of the latest call in the moving average of how long calls take."""


class Refusal(StrEnum):
    """Why a call was not scored."""

    QUEUE_FULL = "queue_full"
    WAIT_TOO_LONG = "wait_too_long"
    """Its turn was not to be expected in time, or did not come in time."""

    EXPIRED_IN_QUEUE = "expired_in_queue"
    CANCELLED_IN_QUEUE = "cancelled_in_queue"


class Admission:
    """Lets a limited number of calls score, a limited number wait, and refuses the others at once.

    First come, first served. A call that is cancelled or expires while it waits leaves its place to
    the next. A call whose turn is not to be expected in time is refused when it comes, while there
    is time to ask another server: workers are for answers that somebody still waits for.

    Args:
        scoring: calls that score at the same time.
        waiting: calls that wait for their turn.
        max_wait_seconds: longest wait, also for calls with a later deadline or none.
        max_wait_share: of the time a call has left, what it may be expected to wait; the rest is
            for the answer.
        on_refusal: told of every call that is not scored.
    """

    def __init__(
        self,
        scoring: int,
        waiting: int,
        max_wait_seconds: float,
        max_wait_share: float = 0.4,
        on_refusal: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        self._scoring = scoring
        self._places = waiting
        self._max_wait_seconds = max_wait_seconds
        self._max_wait_share = max_wait_share
        self._on_refusal = on_refusal
        self._lock = Lock()
        self._busy = 0
        self._queue: deque[Event] = deque()
        self._usual_seconds = 0.0

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._queue)

    @property
    def scoring(self) -> int:
        """Calls that score."""
        return self._busy

    @property
    def is_busy(self) -> bool:
        """Whether a call that comes now would have to wait."""
        return self._busy >= self._scoring

    def refusal(self, seconds_left: float) -> OverloadedError | None:
        """What a call that comes now, with so much time left, is told instead of standing in line.

        None for one that may score or wait.
        """
        with self._lock:
            return self._refusal(seconds_left)

    @contextmanager
    def turn(self, call: grpc.ServicerContext) -> Iterator[None]:
        """Hold a worker; a call that was cancelled or expired while it waited never gets one.

        Raises:
            OverloadedError: all places are taken, or the wait is or would be too long; says when to
                try again.
            DeadlineError: the call's time ran out before its turn.
            CallCancelledError: the caller gave up before its turn.
        """
        self._wait(call)
        started = time.monotonic()
        try:
            self._require_wanted(call)
            yield
            self._learn(time.monotonic() - started)
        finally:
            self._hand_over()

    def _wait(self, call: grpc.ServicerContext) -> None:
        """Return holding a worker, or raise."""
        left = call.time_remaining()  # infinite for a call without a deadline
        longest = min(left, self._max_wait_seconds)
        with self._lock:
            if not self.is_busy:
                self._busy += 1
                return
            if (refused := self._refusal(left)) is not None:
                raise refused
            turn = Event()
            self._queue.append(turn)
        if call.add_callback(turn.set):  # a call that ends, however it does, wakes up, too
            turn.wait(longest)
        self._leave_queue(turn, call)

    def _refusal(self, left: float) -> OverloadedError | None:
        if not self.is_busy:
            return None
        expected = self._expected_wait()
        if len(self._queue) >= self._places:
            return self._refused(Refusal.QUEUE_FULL, expected)
        if expected > min(left * self._max_wait_share, self._max_wait_seconds):
            return self._refused(Refusal.WAIT_TOO_LONG, expected)
        return None

    def _leave_queue(self, turn: Event, call: grpc.ServicerContext) -> None:
        """Return if the turn came; else give the place back and say why it did not."""
        with self._lock:
            if turn not in self._queue:
                return
            self._queue.remove(turn)
            expected = self._expected_wait()
        self._require_wanted(call)
        raise self._refused(Refusal.WAIT_TOO_LONG, expected)

    def _require_wanted(self, call: grpc.ServicerContext) -> None:
        if call.time_remaining() <= 0:
            self._on_refusal(Refusal.EXPIRED_IN_QUEUE)
            raise DeadlineError("the call's time ran out before its turn")
        if not call.is_active():
            self._on_refusal(Refusal.CANCELLED_IN_QUEUE)
            raise CallCancelledError("the caller gave up before its turn")

    def _hand_over(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._busy -= 1

    def _expected_wait(self) -> float:
        """Seconds until one more call in the queue would get its turn."""
        return self._usual_seconds * (len(self._queue) + 1) / self._scoring

    def _learn(self, seconds: float) -> None:
        with self._lock:
            usual = self._usual_seconds or seconds
            self._usual_seconds = (1 - _NEWEST) * usual + _NEWEST * seconds

    def _refused(self, why: Refusal, expected_wait: float) -> OverloadedError:
        self._on_refusal(why)
        again = max(expected_wait, MIN_PUSHBACK_SECONDS)
        return OverloadedError("the server is at its limit of calls; try again later", again)
