"""State stores of each kind, opened with patience: no test depends on the machine's speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from recsys.state import SqliteStateStore, StateStore
from recsys.state.redis_store import RedisStateStore, RedisTimes
from serving.redis_url import redis_address

PATIENT = RedisTimes(read=10.0, write=10.0)


def redis_store(
    url: str,
    times: RedisTimes = PATIENT,
    on_shortcoming: Callable[[str], None] | None = None,
    *,
    must_exist: bool = False,
) -> RedisStateStore:
    """A store that has asked for nothing yet."""
    return RedisStateStore(
        redis_address(url), time.monotonic, times, on_shortcoming, must_exist=must_exist
    )


def opened(at: str) -> StateStore:
    """The store at this place, made if it is not there."""
    if "://" in at:
        store = redis_store(at)
        store.open()
        return store
    return SqliteStateStore(Path(at))
