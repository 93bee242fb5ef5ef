"""What keeps failing is left alone, but for one call in a while; an answer ends that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from recsys.state.circuit_breaker import CircuitBreaker

FAILURES = 3
PAUSE = 2.0


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(FAILURES, PAUSE, clock)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        assert breaker.may_try()
        breaker.failed()


def test_it_opens_at_the_last_failure_in_a_row(breaker: CircuitBreaker) -> None:
    fail(breaker, FAILURES - 1)
    breaker.succeeded()
    fail(breaker, FAILURES)
    assert breaker.is_open
    assert not breaker.may_try()


def test_one_call_may_try_after_each_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, FAILURES)
    for _ in range(3):
        clock.now += PAUSE - 0.001
        assert not breaker.may_try()
        clock.now += 0.001
        with ThreadPoolExecutor(8) as pool:
            tries = list(pool.map(lambda _: breaker.may_try(), range(50)))
        assert tries.count(True) == 1
        breaker.failed()


def test_a_try_that_never_ends_does_not_keep_the_next_one_out(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, FAILURES)
    clock.now += PAUSE
    assert breaker.may_try()
    clock.now += PAUSE
    assert breaker.may_try()


def test_a_try_that_succeeds_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, FAILURES)
    clock.now += PAUSE
    assert breaker.may_try()
    breaker.succeeded()
    assert not breaker.is_open
    assert all(breaker.may_try() for _ in range(10))
    fail(breaker, FAILURES - 1)
    assert not breaker.is_open


def test_failures_of_calls_that_began_before_it_opened_do_not_put_the_next_try_off(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, FAILURES)
    clock.now += PAUSE / 2
    breaker.failed()
    clock.now += PAUSE / 2
    assert breaker.may_try()
