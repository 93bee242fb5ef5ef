"""Calls to a Redis that end in time and within bounds, whatever it does."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Barrier, BoundedSemaphore, Lock
from typing import Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.retry import Retry

from recsys.errors import (
    StateAnswerError,
    StateError,
    StateNotAskedError,
    StateUnavailableError,
)
from recsys.state.circuit_breaker import CircuitBreaker
from recsys.state.redis_address import RedisAddress

FAILURES: Final = 5
"""In a row, after which the Redis is left alone."""

PAUSE_SECONDS: Final = 1.0
"""Between two tries of a Redis that fails."""

TURN_SECONDS: Final = 0.05
"""Longest wait for one of the connections."""

LONGEST_REASON: Final = 200
OTHER_STORE: Final = "OTHERSTORE"
"""Begins the errors of scripts that found another store than the one that was opened."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Limits:
    """What a call to a Redis may take.

    Attributes:
        seconds: from asking to the answer, connecting included.
        answer_bytes: of one answer.
        connections: calls at a time.
    """

    seconds: float
    answer_bytes: int
    connections: int


class RedisLink:
    """Asks a Redis; each call ends within the limits, if need be with an error of ours.

    Nothing is tried twice. After `FAILURES` in a row nothing is asked either, but for one call in
    `PAUSE_SECONDS`. A Redis that answers with an error is not one that fails.

    Args:
        address: where it is.
        limits: of a call.
        clock: seconds, never backwards.

    Attributes:
        connections: how many were made so far; a new one may lead to a Redis that was started anew.
    """

    def __init__(self, address: RedisAddress, limits: Limits, clock: Callable[[], float]) -> None:
        self._address = address
        self._limits = limits
        self._breaker = CircuitBreaker(FAILURES, PAUSE_SECONDS, clock)
        self.connections = 0
        self._counting = Lock()
        self._client = redis.Redis(connection_pool=_pool(address, limits, clock, self._count))
        self._turns = BoundedSemaphore(limits.connections)
        # names are looked up and connections made without regard to time limits
        self._threads = _running_threads(limits.connections)

    def ask(self, action: Callable[[redis.Redis], Answer]) -> Answer:
        """What `action` makes of the answers to its commands.

        Args:
            action: sends commands; raises `WrongValueError` where an answer is not as it should be.

        Raises:
            StateNotAskedError: the Redis failed so often just now that it was left alone.
            StateUnavailableError: it could not be reached, or not in time; whether it has done what
                was asked is unknown.
            StateAnswerError: it answered something else than what was asked, or too much.
            StateError: it refused.
        """
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise StateUnavailableError(
                f"{self._address} has {self._limits.connections} calls to answer; try again later"
            )
        try:
            if not self._breaker.may_try():
                raise StateNotAskedError(
                    "the state store does not answer; nothing was recorded, and it is safe to try "
                    "again in a second"
                )
            return self._asked(action)
        finally:
            self._turns.release()

    def _count(self) -> None:
        with self._counting:
            self.connections += 1

    def close(self) -> None:
        """Close the connections; a second time is no error."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.connection_pool.disconnect()

    def _asked(self, action: Callable[[redis.Redis], Answer]) -> Answer:
        try:
            answering = self._threads.submit(action, self._client)
        except RuntimeError:
            raise StateError(f"the store at {self._address} is closed") from None
        try:
            answer = answering.result(self._limits.seconds)
        except Exception as error:
            answering.cancel()
            if isinstance(error, _HAS_ANSWERED):
                self._breaker.succeeded()
            else:
                self._breaker.failed()
            raise self._translated(error) from error
        except BaseException:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return answer

    def _translated(self, error: Exception) -> StateError:
        """An error of ours, without the password."""
        if isinstance(error, StateError):
            return error
        if isinstance(error, redis.BusyLoadingError):
            return StateUnavailableError(f"{self._address} is still loading its data")
        if isinstance(error, redis.ResponseError | redis.AuthenticationError):
            return self._refused(error)
        if isinstance(error, _TooLargeError):
            return StateAnswerError(f"{self._address} {error}")
        if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            return self._failed(error)
        what = f": {error}" if isinstance(error, WrongValueError) else ""
        return StateAnswerError(
            f"{self._address} answered something else than what was asked{what}"
        )

    def _refused(self, error: redis.RedisError) -> StateError:
        reason = self._reason(error)
        if reason.startswith(OTHER_STORE):
            return StateError(
                f"{self._address} holds another state store than the one that was opened, or none "
                "any more; restore it, or start again to go on with what is there"
            )
        if "WRONGTYPE" in reason:
            return StateAnswerError(f"{self._address} has something else under a key of ours")
        return StateError(f"{self._address} refused: {reason}")

    def _failed(self, error: Exception) -> StateError:
        reason = self._reason(error)
        if isinstance(error, TimeoutError | redis.TimeoutError):
            return StateUnavailableError(
                f"{self._address} does not answer within {1_000 * self._limits.seconds:g} ms; see "
                "that it runs and is not too busy"
            )
        if isinstance(error.__context__, ssl.SSLCertVerificationError):
            return StateError(f"{self._address} has a certificate that is not trusted: {reason}")
        return StateUnavailableError(f"{self._address} can't be reached: {reason}")

    def _reason(self, error: Exception) -> str:
        """What the error says; a server that does not know a command quotes its arguments."""
        text = str(error)
        for secret in filter(None, (self._address.password, self._address.user)):
            text = text.replace(secret, "***")
        return text[:LONGEST_REASON]


class WrongValueError(ValueError):
    """An answer that came whole is not what was asked for; the text quotes nothing of it."""


class _TooLargeError(redis.ConnectionError):
    """An answer has more bytes than is allowed."""


_HAS_ANSWERED: Final = (
    redis.ResponseError,
    redis.AuthenticationError,
    redis.BusyLoadingError,
    StateError,
    WrongValueError,
)
"""Errors after which the Redis is known to be there."""


class _BoundedSocket:
    """A socket of which no more is read than the limits of one answer allow."""

    def __init__(self, inner: Any, limits: Limits, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._limits = limits
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Something is about to be asked."""
        self._left = self._limits.answer_bytes
        self._end = self._clock() + self._limits.seconds

    def recv(self, size: int) -> bytes:
        data: bytes = self._inner.recv(size)
        self._left -= len(data)
        if self._left < 0:
            raise _TooLargeError(f"sent more than {self._limits.answer_bytes:,} bytes")
        if self._clock() > self._end:
            raise TimeoutError
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Bounded:
    """A connection that reads through a `_BoundedSocket`."""

    def __init__(
        self,
        *,
        limits: Limits,
        clock: Callable[[], float],
        connected: Callable[[], None],
        **others: Any,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._connected = connected
        super().__init__(**others)

    def _connect(self) -> _BoundedSocket:
        inner = super()._connect()  # type: ignore[misc]
        self._connected()
        return _BoundedSocket(inner, self._limits, self._clock)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Count anew from here."""
        if isinstance(bounded := getattr(self, "_sock", None), _BoundedSocket):
            bounded.begin()
        super().send_packed_command(command, check_health=check_health)  # type: ignore[misc]


class _BoundedConnection(_Bounded, Connection):
    pass


class _BoundedEncryptedConnection(_Bounded, SSLConnection):
    pass


def _running_threads(count: int) -> ThreadPoolExecutor:
    """Threads that have begun: a later one would have the priority of whoever asks just then."""
    threads = ThreadPoolExecutor(count, "redis")
    all_begun = Barrier(count)
    wait([threads.submit(all_begun.wait) for _ in range(count)])
    return threads


def _pool(
    address: RedisAddress,
    limits: Limits,
    clock: Callable[[], float],
    connected: Callable[[], None],
) -> ConnectionPool:
    others: dict[str, Any] = {}
    if address.is_encrypted:
        others["ssl_ca_certs"] = address.authorities and str(address.authorities)
    return ConnectionPool(
        connection_class=(
            _BoundedEncryptedConnection if address.is_encrypted else _BoundedConnection
        ),
        max_connections=limits.connections,
        limits=limits,
        clock=clock,
        connected=connected,
        host=address.host,
        port=address.port,
        db=address.database,
        username=address.user or None,
        password=address.password or None,
        socket_timeout=limits.seconds,
        socket_connect_timeout=limits.seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=True,
        driver_info=None,
        **others,
    )
