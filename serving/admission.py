"""How many calls are scored, may wait and write at the same time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from threading import Event, Lock
from typing import Any, Final, Generic, TypeVar

import grpc

from recsys.errors import CallCancelledError, DeadlineError, OverloadedError
from serving.threads import Workers

MIN_PUSHBACK_SECONDS: Final = 0.05
"""Shortest time that a refused caller is asked to wait."""

_NEWEST: Final = 0.1
"""Weight of the latest call in the moving average of how long calls take."""

LIMIT_REACHED: Final = "the server is at its limit of calls; try again later"
WRITE_PUSHBACK_SECONDS: Final = 0.5
"""What a refused caller who wants to write is asked to wait: a change takes about as long."""

Answer = TypeVar("Answer")


class Refusal(StrEnum):
    """Why a call was not scored."""

    QUEUE_FULL = "queue_full"
    WAIT_TOO_LONG = "wait_too_long"
    """Its turn was not to be expected in time, or did not come in time."""

    EXPIRED_IN_QUEUE = "expired_in_queue"
    CANCELLED_IN_QUEUE = "cancelled_in_queue"


class _Place(Generic[Answer]):
    """A call's place in the queue, and what becomes of it.

    Args:
        action: makes the answer, or raises.

    Attributes:
        awake: set when there is an answer; may be set before, to look whether one is still due.
    """

    def __init__(self, action: Callable[[], Answer]) -> None:
        self._action = action
        self._done = Event()
        self._error: BaseException | None = None
        self.awake = Event()

    def act(self) -> None:
        """Make the answer, in a worker's thread."""
        try:
            self._answer = self._action()
        except BaseException as error:  # noqa: BLE001
            self._error = error
        self._done.set()
        self.awake.set()

    def answer(self) -> Answer:
        """Wait for the answer; once.

        An error is handed out and not kept: its traceback leads back here, and in a cycle all that
        the action had made would stay until the garbage collector comes.
        """
        self._done.wait()
        error, self._error = self._error, None
        if error is None:
            return self._answer
        try:
            raise error
        finally:
            del error


class Admission:
    """Lets a limited number of calls score, a limited number wait, and refuses the others at once.

    First come, first served. A call that is cancelled or expires while it waits leaves its place to
    the next. A call whose turn is not to be expected in time is refused when it comes, while there
    is time to ask another server: workers are for answers that somebody still waits for.

    Args:
        workers: score, each a call at a time.
        scoring: number of workers.
        waiting: calls that wait for their turn.
        max_wait_seconds: longest wait, also for calls with a later deadline or none.
        max_wait_share: of the time a call has left, what it may be expected to wait; the rest is
            for the answer.
        on_refusal: told of every call that is not scored.
    """

    def __init__(
        self,
        workers: Workers,
        scoring: int,
        waiting: int,
        max_wait_seconds: float,
        max_wait_share: float = 0.4,
        on_refusal: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        self._workers = workers
        self._scoring = scoring
        self._places = waiting
        self._max_wait_seconds = max_wait_seconds
        self._max_wait_share = max_wait_share
        self._on_refusal = on_refusal
        self._lock = Lock()
        self._busy = 0
        self._queue: deque[_Place[Any]] = deque()
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

    def scored(self, call: grpc.ServicerContext, action: Callable[[], Answer]) -> Answer:
        """What the action makes, or raises, in a worker's thread once it is the call's turn.

        A call that was cancelled or expired while it waited never gets one.

        Raises:
            OverloadedError: all places are taken, or the wait is or would be too long; says when to
                try again.
            DeadlineError: the call's time ran out before its turn.
            CallCancelledError: the caller gave up before its turn.
        """
        left = call.time_remaining()  # infinite for a call without a deadline
        place = _Place(lambda: self._timed(call, action))
        with self._lock:
            waits = self.is_busy
            if (refused := self._refusal(left)) is not None:
                raise refused
            if waits:
                self._queue.append(place)
            else:
                self._busy += 1
        if not waits:
            self._workers.start(place.act, self._following)
        elif call.add_callback(place.awake.set):  # a call that ends, however it does, wakes up, too
            place.awake.wait(min(left, self._max_wait_seconds))
        self._leave_queue(place, call)
        return place.answer()

    def _timed(self, call: grpc.ServicerContext, action: Callable[[], Answer]) -> Answer:
        self._require_wanted(call)
        started = time.monotonic()
        answer = action()
        self._learn(time.monotonic() - started)
        return answer

    def _refusal(self, left: float) -> OverloadedError | None:
        if not self.is_busy:
            return None
        expected = self._expected_wait()
        if len(self._queue) >= self._places:
            return self._refused(Refusal.QUEUE_FULL, expected)
        if expected > min(left * self._max_wait_share, self._max_wait_seconds):
            return self._refused(Refusal.WAIT_TOO_LONG, expected)
        return None

    def _leave_queue(self, place: _Place[Any], call: grpc.ServicerContext) -> None:
        """Return if the turn came; else give the place back and say why it did not."""
        with self._lock:
            if place not in self._queue:
                return
            self._queue.remove(place)
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

    def _following(self) -> Callable[[], None] | None:
        """The next call's, for a worker that is done; None leaves the worker to calls to come."""
        with self._lock:
            if self._queue:
                return self._queue.popleft().act
            self._busy -= 1
            return None

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
        return OverloadedError(LIMIT_REACHED, again)


class WriteAdmission:
    """Lets a limited number of calls write at a time, and refuses the others at once.

    A call that writes waits for a disk, or until a change is in effect, and takes no worker
    meanwhile; but it takes a thread, and those that score need theirs.

    Args:
        count: calls that may write at a time.
        on_refusal: told of every call that may not.
    """

    def __init__(self, count: int, on_refusal: Callable[[Refusal], None] = lambda _: None) -> None:
        self._count = count
        self._on_refusal = on_refusal
        self._lock = Lock()
        self._writing = 0

    @property
    def is_busy(self) -> bool:
        """Whether a call that comes now would be refused."""
        return self._writing >= self._count

    def refusal(self, _: float) -> OverloadedError | None:
        """What a call that comes now is told; None for one that may write."""
        if not self.is_busy:
            return None
        self._on_refusal(Refusal.QUEUE_FULL)
        return OverloadedError(LIMIT_REACHED, WRITE_PUSHBACK_SECONDS)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have one of the places for as long as the block runs.

        Raises:
            OverloadedError: all are taken; says when to try again.
        """
        with self._lock:
            if (refused := self.refusal(0.0)) is not None:
                raise refused
            self._writing += 1
        try:
            yield
        finally:
            with self._lock:
                self._writing -= 1
