"""What is erased from a Redis leaves no key, no member and no byte of its files behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
import redis
from state_stores import redis_store

from recsys.errors import StateError
from recsys.state import EventRecord, HeldEvents
from recsys.state import redis_erasure as module
from recsys.state.redis_store import RedisStateStore
from serving.bench.redis_process import RedisProcess

GONE: Final = "canary-4711@example.org"


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStateStore]:
    with closing(redis_store(redis_url)) as opened:
        opened.open()
        yield opened


def fill(store: RedisStateStore, first: int = 0) -> None:
    """Every fourth event is theirs, every eighth an impression; several pages."""
    for begin in range(first, first + 2_400, 400):
        batch = [
            EventRecord(
                f"{user}-{number}",
                user,
                "i",
                "impression" if number % 8 == 0 else "review",
                number,
                f"of {user}",
                text=f"by {user}",
            )
            for number in range(begin, begin + 400)
            for user in [GONE if number % 4 == 0 else f"user-{number % 7}"]
        ]
        store.append_events(batch, 0, 0)


def traces(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.read_bytes().count(GONE.encode()) for path in files)


def test_no_key_and_no_byte_of_theirs_is_left(
    store: RedisStateStore, redis_server: RedisProcess, redis_url: str
) -> None:
    fill(store)
    folder = redis_server._folder
    assert traces(folder) > 1_000
    assert store.held([GONE]) == HeldEvents(600, (GONE,), (f"of {GONE}",))
    assert store.erase([GONE], 10_000) == 600
    assert traces(folder) == 0
    assert len(store.events_after(0, 9_999).events) == 1_800
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert list(client.scan_iter(f"*{GONE}*")) == []
        assert client.scard("{vitrine}:event_ids") == client.xlen("{vitrine}:events") == 1_800


def test_what_was_interrupted_is_made_up_for(
    store: RedisStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("recsys.state.redis_store.keep_others", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.erase([GONE], 10_000)
    fill(store)
    assert store.held([GONE]).events == 600
    assert store.erase([GONE], 10_000) == 600
    assert store.erase([GONE], 10_000) == 0


def test_files_that_can_t_be_written_anew_are_told_of(
    store: RedisStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    monkeypatch.setattr(module, "LONGEST_REWRITE_SECONDS", 0.0)
    with pytest.raises(StateError, match=r"are erased, but its files .*longer than 0 s"):
        store.erase([GONE], 10_000)
    monkeypatch.undo()
    assert store.held([GONE]).events == 0
    assert store.erase([GONE], 10_000) == 0


def test_a_redis_that_is_down_is_told_the_key_once_it_is_there(redis_url: str) -> None:
    with closing(redis_store("redis://127.0.0.1:1/0")) as away:
        away.set_pseudonym_key("a" * 16)
    with closing(redis_store(redis_url)) as late:
        late._wanted_key = "a" * 16  # as if it had been down when it was said
        late.append_events([EventRecord("e", "u", "i", "view", 1)], 0, 0)
        assert late.pseudonym_key == "a" * 16
    with closing(redis_store(redis_url)) as other, pytest.raises(StateError, match="holds pseud"):
        other.set_pseudonym_key(None)
