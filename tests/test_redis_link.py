"""Calls to a Redis end in time, whatever they wait for, and only so many of them wait at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import pytest
import redis
from shelf_server import until

from recsys.errors import StateError, StateNotAskedError, StateUnavailableError
from recsys.state.redis_address import RedisAddress
from recsys.state.redis_link import FAILURES, Limits, RedisLink, WrongValueError

NOWHERE = RedisAddress("127.0.0.1", 1)


@pytest.fixture
def gate() -> Iterator[Event]:
    """What actions wait for that would never end; opened in the end."""
    closed = Event()
    yield closed
    closed.set()


def link(seconds: float, connections: int = 2) -> RedisLink:
    return RedisLink(NOWHERE, Limits(seconds, 1 << 20, connections), time.monotonic)


def waits(gate: Event) -> bool:
    """Stands for what knows no time limit, as looking up a name."""
    return gate.wait(60.0)


def test_what_would_never_end_ends_in_time_and_counts_as_a_failure(gate: Event) -> None:
    with closing(link(0.05, FAILURES)) as asked:
        for _ in range(FAILURES):
            with pytest.raises(StateUnavailableError, match="within 50 ms"):
                asked.ask(lambda _: waits(gate))
        assert not gate.is_set()
        with pytest.raises(StateNotAskedError):
            asked.ask(lambda _: "answer")


def test_its_threads_have_begun_before_anybody_asks() -> None:
    """They'd else have the priority of the first to ask, which may be work that gives way."""
    before = set(threading.enumerate())
    with closing(link(60.0, 3)):
        begun = set(threading.enumerate()) - before
        assert len([one for one in begun if one.name.startswith("redis")]) == 3


def test_no_more_calls_than_agreed_wait_at_once(gate: Event) -> None:
    begun: list[int] = []

    def wait(client: redis.Redis) -> bool:
        begun.append(id(client))
        return waits(gate)

    with closing(link(60.0)) as asked, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(asked.ask, wait) for _ in range(2)]
        until(lambda: len(begun) == 2)
        with pytest.raises(StateUnavailableError, match="has 2 calls to answer"):
            asked.ask(lambda _: "answer")
        gate.set()
        assert [answer.result() for answer in answers] == [True, True]
        assert asked.ask(lambda _: "answer") == "answer"


@pytest.mark.parametrize(
    "error", [WrongValueError("no row"), redis.ResponseError("ERR no"), StateError("none")]
)
def test_a_redis_that_answers_is_not_left_alone(error: Exception) -> None:
    def refuse(_: redis.Redis) -> None:
        raise error

    with closing(link(60.0)) as asked:
        for _ in range(2 * FAILURES):
            with pytest.raises(StateError) as caught:
                asked.ask(refuse)
            assert not isinstance(caught.value, StateUnavailableError)


def test_a_closed_link_says_so() -> None:
    asked = link(60.0)
    asked.close()
    asked.close()
    with pytest.raises(StateError, match="closed"):
        asked.ask(lambda _: "answer")
