"""A Redis is not trusted: neither to keep what it acknowledged, nor in what it holds."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from state_stores import PATIENT, redis_store

from recsys.errors import (
    StateAnswerError,
    StateDamagedError,
    StateError,
    StateUnavailableError,
)
from recsys.state import Appended, EventRecord, ItemChange, ItemRecord, ShopperKey
from recsys.state import redis_scripts as lua
from recsys.state import redis_store as redis_store_module
from recsys.state.redis_link import WrongValueError
from recsys.state.redis_rows import (
    change_row,
    event_row,
    read_change,
    read_event,
    time_digits,
)
from recsys.state.redis_store import RedisStateStore, RedisTimes
from serving.bench.redis_process import RedisProcess, redis_process

SECRET = "s3cret"  # noqa: S105 (not one)
EVERYTHING = ShopperKey("u1", "", 0, 10**15)
Client = redis.Redis


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as connected:
        yield connected


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStateStore]:
    with closing(redis_store(redis_url)) as opened:
        opened.open()
        yield opened


def event(number: int, **columns: str) -> EventRecord:
    return EventRecord(f"e{number}", "u1", "i1", "view", 1_000 + number)._replace(**columns)  # type: ignore[arg-type]


def upsert(item_id: str) -> ItemChange:
    return ItemChange(item_id, 5, ItemRecord(item_id, "Red mug"), is_dated=True)


LOSING = {
    "no log": ("appendonly", "no"),
    "a flush a second": ("appendfsync", "everysec"),
    "no flush while the log is rewritten": ("no-appendfsync-on-rewrite", "yes"),
    "eviction": ("maxmemory-policy", "allkeys-lru"),
}


@pytest.mark.parametrize("why", LOSING)
def test_a_redis_that_may_lose_what_it_acknowledged_is_refused_or_told(
    client: Client, redis_url: str, why: str
) -> None:
    name, value = LOSING[why]
    before = {one: str(client.config_get(one)[one]) for one in (name, "maxmemory")}
    client.config_set(name, value)
    client.config_set("maxmemory", "1gb")
    try:
        with closing(redis_store(redis_url)) as strict, pytest.raises(StateError) as refused:
            strict.append_events([event(1)], 9, 0)
        assert not client.exists(lua.META)
        told: list[str] = []
        with closing(redis_store(redis_url, on_shortcoming=told.append)) as lax:
            assert lax.append_events([event(1)], 9, 0).recorded == 1
    finally:
        for one, usual in before.items():
            client.config_set(one, usual)
    assert f"{name} is '{value}'" in str(refused.value)
    assert "redis_may_lose" in str(refused.value)
    assert len(told) == 1
    assert f"{name} is '{value}'" in told[0]


def test_a_limit_of_memory_without_eviction_is_durable(client: Client, redis_url: str) -> None:
    client.config_set("maxmemory", "1gb")
    try:
        with closing(redis_store(redis_url)) as opened:
            opened.open()
    finally:
        client.config_set("maxmemory", "0")


def test_settings_that_may_not_be_read_are_not_trusted(client: Client, redis_url: str) -> None:
    client.acl_setuser(
        "shop",
        enabled=True,
        passwords=[f"+{SECRET}"],
        keys=["*"],
        commands=["+@all", "-config"],
    )
    url = redis_url.replace("redis://", f"redis://shop:{SECRET}@")
    with closing(redis_store(url)) as strict, pytest.raises(StateError, match="CONFIG GET"):
        strict.open()
    with closing(redis_store(url, on_shortcoming=lambda _: None)) as lax:
        assert lax.append_events([event(1)], 9, 0).recorded == 1
    client.acl_deluser("shop")


def test_what_was_acknowledged_is_there_once_after_kills(tmp_path: Path, redis_url: str) -> None:
    assert redis_url  # skips where there is no Redis
    acknowledged: list[int] = []
    batches = iter(range(10**6))
    with redis_process(tmp_path) as process, closing(redis_store(process.url)) as store:
        for _ in range(5):
            killed = threading.Timer(0.15, process.kill)
            killed.start()
            with suppress(StateError):
                for batch in batches:
                    store.append_events([event(n, user_id=f"b{batch}") for n in ids(batch)], 9, 0)
                    acknowledged.append(batch)
            killed.join()
            process.start()
            sent_again(store)
        kept = store.events_after(0, 10**6).events
    assert len(acknowledged) > 20
    assert set(Counter(one.event_id for one in kept).values()) == {1}
    whole = Counter(one.user_id for one in kept)
    assert set(whole.values()) == {3}, "a batch is there in part"
    assert {f"b{batch}" for batch in acknowledged} <= set(whole)


def ids(batch: int) -> list[int]:
    return [3 * batch, 3 * batch + 1, 3 * batch + 2]


def sent_again(store: RedisStateStore) -> None:
    """Wait for the circuit breaker to let the store through."""
    for _ in range(50):
        with suppress(StateUnavailableError):
            store.append_events([], 9, 0)
            return
        time.sleep(0.1)
    pytest.fail("the store does not come back")


OURS = [lua.META, lua.EVENTS, lua.EVENT_IDS, lua.user_key("u1"), lua.session_key("s1")]


@pytest.mark.parametrize("key", OURS)
def test_a_batch_that_meets_a_foreign_value_leaves_nothing_behind(
    store: RedisStateStore, client: Client, key: str
) -> None:
    kept = client.dump(key) if client.exists(key) else None
    client.set(key, "something else")
    batch = [event(1, user_id="u2"), event(2, session_id="s1")]
    with pytest.raises(StateAnswerError, match="under a key of ours"):
        store.append_events(batch, 9, 0)
    assert sorted(client.keys("*")) == sorted({lua.META, key})
    client.delete(key)
    if kept is not None:
        client.restore(key, 0, kept)
    assert store.append_events(batch, 9, 0).recorded == 2


@pytest.mark.parametrize("key", [lua.META, lua.ITEMS, lua.CHANGES])
def test_a_change_that_meets_a_foreign_value_leaves_nothing_behind(
    store: RedisStateStore, client: Client, key: str
) -> None:
    client.set(key, "something else")
    with pytest.raises(StateAnswerError):
        store.change_catalogue([upsert("mug")])
    assert sorted(client.keys("*")) == sorted({lua.META, key})


ROWS = {
    "no JSON": "{",
    "no event": "[]",
    "another type": event_row(event(1)).replace("view", "stare"),
    "a number as id": event_row(event(1)).replace('"u1"', "7"),
    "a fraction as time": event_row(event(1)).replace("1001", "1001.5"),
    "no number": event_row(event(1)._replace(price=2.5)).replace("2.5", "NaN"),
    "too large a number": event_row(event(1)._replace(price=2.5)).replace("2.5", "1e999"),
    "an impression": event_row(event(1, event_type="impression")),
    "another time": event_row(event(1)._replace(event_time=10**15)),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_no_event_is_never_taken_for_one(
    store: RedisStateStore, client: Client, name: str
) -> None:
    store.append_events([event(1)], 9, 0)
    client.delete(lua.EVENTS)
    client.xadd(lua.EVENTS, {"e": ROWS[name], "l": "0", "r": "9"}, id="1-0")
    with pytest.raises(StateAnswerError, match="something else"):
        store.shopper_events(EVERYTHING, 10)


def test_a_row_that_is_no_event_is_named(store: RedisStateStore, client: Client) -> None:
    client.xadd(lua.EVENTS, {"e": "{", "l": "0", "r": "9"}, id="17-0")
    with pytest.raises(StateAnswerError, match=r"no JSON in .*events at 17-0"):
        store.events_after(0, 10)


def test_an_act_without_its_event_is_an_error(store: RedisStateStore, client: Client) -> None:
    store.append_events([event(1)], 9, 0)
    client.delete(lua.EVENTS)
    with pytest.raises(StateError):
        store.shopper_events(EVERYTHING, 10)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=15,
)


@given(json_values)
@settings(max_examples=30)
def test_any_json_is_an_event_and_a_change_or_refused(value: object) -> None:
    text = json.dumps(value)
    with suppress(WrongValueError):
        read_event(text)
    with suppress(WrongValueError):
        read_change("mug", 1, text)


@given(st.integers(-(2**61), 2**61), st.integers(-(2**61), 2**61))
def test_times_as_digits_are_in_the_order_of_the_times(one: int, other: int) -> None:
    assert len(time_digits(one)) == len(time_digits(other))
    assert (time_digits(one) < time_digits(other)) == (one < other)


def test_a_row_from_before_a_column_came_to_be_is_read() -> None:
    full = event(1)._replace(text="nice", experiment_arm="a")
    *columns, _, _ = full
    *_, one, other = EventRecord._fields
    assert read_event(json.dumps(columns)) == full._replace(**{one: None, other: None})  # type: ignore[arg-type]
    assert read_event(json.dumps(full[:5])) == event(1)
    with pytest.raises(WrongValueError):
        read_event(json.dumps(full[:4]))


def test_memory_that_runs_out_leaves_whole_batches_only(
    store: RedisStateStore, client: Client
) -> None:
    batch = [event(n)._replace(text="x" * 1_000) for n in range(1_000)]
    for extra in range(0, 6_000_000, 500_000):
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + extra)
        with suppress(StateError):
            store.append_events([one._replace(event_id=f"{extra} {one}") for one in batch], 9, 0)
        client.config_set("maxmemory", 0)
    recorded = len(store.events_after(0, 10**6).events)
    assert 0 < recorded < 12_000
    assert recorded % 1_000 == 0
    assert client.scard(lua.EVENT_IDS) == recorded


def test_a_change_comes_back_whole() -> None:
    full = ItemRecord("m", "t", "d", ("a", "é"), (), "b", 0.1, "EUR", "u", False, 2**60, -5)  # noqa: FBT003
    change = ItemChange("m", 2**60 + 1, full, is_dated=True, sequence=7)
    assert read_change("m", 7, change_row(change)) == change


def test_a_value_that_is_too_large_is_not_read(
    redis_url: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store_module, "WRITE_BYTES", 1 << 20)
    with closing(redis_store(redis_url)) as store:
        store.change_catalogue([upsert("mug")])
        client.hset(lua.ITEMS, "mug", "x" * (2 << 20))
        with pytest.raises(StateAnswerError, match="sent more than 1,048,576 bytes"):
            store.catalogue_changes()
        client.delete(lua.ITEMS)
        assert store.append_events([event(1)], 9, 0).recorded == 1


def test_another_store_in_the_place_of_the_opened_one_gets_nothing(
    store: RedisStateStore, client: Client, redis_url: str
) -> None:
    store.append_events([event(1)], 9, 0)
    client.flushall()
    asked: list[Callable[[], object]] = [
        lambda: store.append_events([event(2)], 9, 0),
        lambda: store.change_catalogue([upsert("mug")]),
        lambda: store.events_after(0, 5),
        store.catalogue_changes,
        lambda: store.shopper_events(EVERYTHING, 5),
    ]
    for ask in asked:
        with pytest.raises(StateError, match=r"does not hold its|another state store"):
            ask()
    assert client.keys("*") == []
    with closing(redis_store(redis_url)) as other:
        other.open()
    for ask in asked:
        with pytest.raises(StateError, match="another state store"):
            ask()


def test_a_part_of_a_store_is_damage(client: Client, redis_url: str) -> None:
    with closing(redis_store(redis_url)) as store:
        store.append_events([event(1)], 9, 0)
    client.delete(lua.META)
    with closing(redis_store(redis_url)) as store, pytest.raises(StateDamagedError, match="events"):
        store.open()


def test_a_later_format_is_refused(client: Client, store: RedisStateStore, redis_url: str) -> None:
    assert store.identity
    client.hset(lua.META, "format", "99")
    with closing(redis_store(redis_url)) as later, pytest.raises(StateError, match="format 99"):
        later.open()


def test_a_batch_of_many_events_is_recorded_in_steps(store: RedisStateStore) -> None:
    many = [event(number) for number in range(2_500)]
    assert store.append_events([*many, many[0]], 9, 0) == Appended(2_500, 1, 0)
    assert store.events_after(0, 10_000).events == tuple(many)


def test_servers_that_share_a_store_count_events_once_and_number_changes_apart(
    redis_url: str,
) -> None:
    def write(_: int) -> int:
        with closing(redis_store(redis_url)) as own:
            recorded = 0
            for number in range(30):
                recorded += own.append_events([event(number)], 9, 0).recorded
                own.change_catalogue([ItemChange(f"i{number % 7}", number, None)])
        return recorded

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 30
    with closing(redis_store(redis_url)) as store:
        assert len(store.events_after(0, 100).events) == 30
        changes = store.catalogue_changes()
    assert len(changes) == 7
    assert changes[-1].sequence == 4 * 30
    assert len({change.sequence for change in changes}) == 7


def test_a_store_made_while_its_redis_is_down_opens_by_itself(
    tmp_path: Path, redis_url: str
) -> None:
    assert redis_url  # skips where there is no Redis
    process = RedisProcess(tmp_path)
    with closing(redis_store(process.url, RedisTimes(PATIENT.read, 1.0))) as store:
        for ask in (lambda: store.identity, lambda: store.shopper_events(EVERYTHING, 5)):
            with pytest.raises(StateUnavailableError, match="can't be reached"):
                ask()
        process.start()
        try:
            assert store.shopper_events(EVERYTHING, 5) == ()
            assert store.append_events([event(1)], 9, 0).recorded == 1
            assert store.shopper_events(EVERYTHING, 5) == (event(1),)
        finally:
            process.kill()


def test_a_redis_that_starts_again_less_durable_acknowledges_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    assert redis_url  # skips where there is no Redis
    process = RedisProcess(tmp_path)
    process.start()
    try:
        with closing(redis_store(process.url)) as store:
            assert store.append_events([event(1)], 9, 0).recorded == 1
            process.kill()
            process.start()
            with redis.Redis.from_url(process.url) as admin:
                admin.config_set("appendfsync", "everysec")
            for _ in range(2):
                with pytest.raises(StateError, match="may lose what it has acknowledged"):
                    store.append_events([event(2)], 9, 0)
    finally:
        process.kill()


def test_where_no_store_has_to_be_made_none_is(redis_url: str, client: Client) -> None:
    with closing(redis_store(redis_url, must_exist=True)) as store:
        with pytest.raises(StateError, match="there is no state store at"):
            store.open()
        assert client.keys("*") == []
