"""Events in: what is acknowledged is in the log once, and a bad event is named with its reasons."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from shelf_ranker import HORIZON, ShelfRanker
from shelf_server import NOW, Call, refusal, running

from recsys import v1
from recsys.interactions import microseconds
from recsys.state import EventRecord, SqliteStateStore, StateStore

Served = tuple[StateStore, Call]


@pytest.fixture
def served(reopen: Callable[[], StateStore]) -> Iterator[Served]:
    store = reopen()
    with running(ShelfRanker(), store) as (_, call):
        yield store, call


def stamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message


def event(event_id: str = "e1", **fields: object) -> v1.Event:
    default = {
        "user_id": "u1",
        "item_id": "mug",
        "event_type": "view",
        "event_time": stamp(NOW - timedelta(minutes=1)),
    }
    return v1.Event(event_id=event_id, **{**default, **fields})  # type: ignore[arg-type]


def record(call: Call, *events: v1.Event) -> v1.RecordEventsResponse:
    request = v1.RecordEventsRequest(events=events)
    response: v1.RecordEventsResponse = call.events.RecordEvents(request, timeout=10.0)
    return response


def logged(store: StateStore) -> tuple[EventRecord, ...]:
    return store.events_after(0, 10_000).events


def test_every_field_reaches_the_log(served: Served) -> None:
    store, call = served
    time = datetime(2030, 3, 2, 11, 59, 0, 123456, tzinfo=UTC)
    sent = event(
        event_type="purchase",
        event_time=stamp(time),
        session_id="s",
        attribution_token="t",  # noqa: S106
        position=0,
        query="red mug",
        quantity=2,
        price=0.0,
        text="nice",
        experiment_arm="a",
        propensity=0.25,
    )
    assert record(call, sent).recorded_count == 1
    (found,) = logged(store)
    at = microseconds(time)
    assert found == EventRecord(
        *("e1", "u1", "mug", "purchase", at, "s", "t", 0, "red mug", 2, 0.0, "nice", "a", 0.25)
    )


def test_absent_fields_are_missing_values(served: Served) -> None:
    store, call = served
    record(call, event())
    assert set(logged(store)[0][5:]) == {None}


def test_an_event_sent_again_counts_once(served: Served) -> None:
    store, call = served
    first = record(call, event("a"), event("b"), event("a"))
    assert (first.recorded_count, first.duplicate_count) == (2, 1)
    again = record(call, event("b"), event("c"))
    assert (again.recorded_count, again.duplicate_count) == (1, 1)
    assert [one.event_id for one in logged(store)] == ["a", "b", "c"]


def test_an_act_without_a_user_belongs_to_its_session(served: Served) -> None:
    store, call = served
    assert record(call, event(user_id="", session_id="visit")).recorded_count == 1
    (found,) = logged(store)
    assert (found.user_id, found.session_id) == ("session:visit", "visit")


def test_late_events_are_recorded_and_counted(served: Served) -> None:
    store, call = served
    before = event("old", event_time=stamp(HORIZON - timedelta(microseconds=1)))
    response = record(call, before, event("edge", event_time=stamp(HORIZON)), event("new"))
    assert (response.recorded_count, response.late_count) == (3, 1)
    assert store.events_after(0, 10).late == 1
    assert record(call, before).late_count == 0


BROKEN: dict[str, tuple[v1.Event, str]] = {
    "no id": (event(""), "event_id: not blank"),
    "blank user": (event(user_id=" \t"), "user_id: not blank"),
    "no user": (event(user_id=""), "user_id: not blank"),
    "long session": (event(user_id="", session_id="s" * 250), "user_id: without one"),
    "no item": (event(item_id=""), "item_id: not blank"),
    "type": (event(event_type="looked"), "event_type: one of impression view"),
    "no time": (v1.Event(event_id="e", user_id="u", item_id="i", event_type="view"), "missing"),
    "year": (event(event_time=Timestamp(seconds=2**60)), "event_time: between the years"),
    "future": (event(event_time=stamp(NOW + timedelta(seconds=301))), "at most 5 minutes ahead"),
    "position": (event(position=-1), "position: from 0"),
    "quantity": (event(quantity=0), "quantity: from 1"),
    "negative price": (event(price=-0.01), "price: finite, >= 0"),
    "NaN price": (event(price=math.nan), "price: finite, >= 0"),
    "infinite price": (event(price=math.inf), "price: finite, >= 0"),
    "propensity": (event(propensity=0.0), "propensity: above 0, at most 1"),
    "NaN propensity": (event(propensity=math.nan), "propensity: above 0, at most 1"),
    "long id": (event("e" * 257), "event_id: at most 256 characters"),
    "long query": (event(query="q" * 2_001), "query: at most 2000 characters"),
    "long text": (event(text="t" * 20_001), "text: at most 20000 characters"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_event_is_rejected_with_its_reason_and_keeps_no_other_out(
    served: Served, name: str
) -> None:
    store, call = served
    bad, reason = BROKEN[name]
    response = record(call, event("before"), bad, event("after"))
    (rejected,) = response.rejected_events
    assert rejected.index == 1
    assert rejected.event_id == bad.event_id[:256]
    assert reason in rejected.reason
    assert response.recorded_count == 2
    assert [one.event_id for one in logged(store)] == ["before", "after"]


def test_all_broken_rules_are_named(served: Served) -> None:
    bad = event(user_id="", price=-1.0, query="q" * 2_001)
    (rejected,) = record(served[1], bad).rejected_events
    assert [part.partition(":")[0] for part in rejected.reason.split("; ")] == [
        "user_id",
        "price",
        "query",
    ]


def test_what_lies_at_a_limit_is_taken(served: Served) -> None:
    events = [
        event("e" * 256, query="q" * 2_000, text="t" * 20_000, propensity=1.0, quantity=1),
        event("soon", event_time=stamp(NOW + timedelta(minutes=5)), position=2**31 - 1),
        event("nul \0 rtl \u202e 👩‍👩‍👧 e\u0301" + "\u0301" * 200, text="\0" * 20_000),
        event("'; DROP TABLE events; --", event_time=Timestamp(seconds=-(10**10))),
    ]
    assert record(served[1], *events).recorded_count == 4
    assert [one.event_id for one in logged(served[0])] == [one.event_id for one in events]


@pytest.mark.parametrize("count", [0, 1_001])
def test_an_empty_or_too_long_batch_is_refused(served: Served, count: int) -> None:
    batch = [event(str(number)) for number in range(count)]
    code, text, blamed = refusal(lambda: record(served[1], *batch))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert blamed == ["events"]
    assert f"has {count} entries" in text
    assert logged(served[0]) == ()


def test_a_message_that_is_too_large_is_refused_and_the_next_call_answered(
    served: Served,
) -> None:
    huge = event(text="t" * (2 << 20))
    code, _, _ = refusal(lambda: record(served[1], huge))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert record(served[1], event()).recorded_count == 1


def test_a_store_that_can_t_write_is_unavailable_and_takes_the_batch_later(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.sqlite"
    with (
        closing(SqliteStateStore(path)) as store,
        running(ShelfRanker(), store) as (_, call),
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        store._connection.execute("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        code, text, _ = refusal(lambda: record(call, event()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "safe to send it again" in text
        assert str(tmp_path) not in text
        other.execute("ROLLBACK")
        assert record(call, event()).recorded_count == 1


def test_events_wait_for_a_recommender(tmp_path: Path) -> None:
    with (
        closing(SqliteStateStore(tmp_path / "state.sqlite")) as store,
        running(None, store) as (_, call),
    ):
        code, _, _ = refusal(lambda: record(call, event()))
    assert code is grpc.StatusCode.UNAVAILABLE


def test_a_server_without_a_store_takes_no_events() -> None:
    with running(ShelfRanker()) as (_, call):
        code, _, _ = refusal(lambda: record(call, event()))
    assert code is grpc.StatusCode.UNIMPLEMENTED
