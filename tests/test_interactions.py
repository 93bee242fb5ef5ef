"""The interaction log: the same events give the same arrays, and nothing from later is seen."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.interactions import EventKind, Histories, InteractionLog, kept_by_hour

START = datetime(2031, 3, 1, tzinfo=UTC)
CATALOGUE = pl.Series(["pen", "mug", "cup", "mug"])
TYPES = ["impression", *(kind.name.lower() for kind in EventKind)]
REQUIRED = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "item_id": pl.String(),
    "event_type": pl.String(),
    "event_time": pl.Datetime("us", "UTC"),
}

Row = tuple[str, str, str, str, float]


def table(rows: Sequence[Row], **columns: pl.Series) -> pl.DataFrame:
    """Events of (event id, user, item, type, seconds after `START`) and optional columns."""
    timed = [(*row[:4], START + timedelta(seconds=row[4])) for row in rows]
    return pl.DataFrame(timed, schema=REQUIRED, orient="row").with_columns(**columns)


def build(frame: pl.DataFrame) -> InteractionLog:
    return InteractionLog.build(CATALOGUE, frame.lazy())


def assert_equal(one: InteractionLog, other: InteractionLog) -> None:
    apart = {"impressions", "searches"}
    for name in {field.name for field in fields(InteractionLog)} - apart:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for part in apart:
        for name, values in vars(getattr(one, part)).items():
            np.testing.assert_array_equal(values, getattr(getattr(other, part), name))


def micros(seconds: int) -> int:
    return int(START.timestamp()) * 1_000_000 + seconds * 1_000_000


ROWS: list[Row] = [
    ("e1", "zoe", "mug", "view", 10),
    ("e2", "zoe", "pen", "purchase", 30),
    ("e3", "ann", "cup", "click", 20),
    ("e4", "zoe", "cup", "add_to_cart", 20),
    ("e5", "ann", "mug", "hide", 20),
    ("e6", "bob", "mug", "impression", 5),
    ("e7", "eve", "unheard of", "purchase", 5),
]

events = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "zoe"]),
        st.sampled_from(["pen", "mug", "cup", "unheard of"]),
        st.sampled_from(TYPES),
        st.integers(0, 5),
    ),
    max_size=12,
)


def test_ids_become_rows_sorted_by_user_time_and_event() -> None:
    log = build(table(ROWS))
    assert log.user_ids == ("ann", "zoe")
    assert log.item_ids == ("cup", "mug", "pen")
    assert log.user_offsets.tolist() == [0, 2, 5]
    assert log.user.tolist() == [0, 0, 1, 1, 1]
    assert log.item.tolist() == [0, 1, 1, 0, 2]
    assert log.time.tolist() == [micros(s) for s in (20, 20, 10, 20, 30)]
    assert [EventKind(kind).name for kind in log.kind] == [
        "CLICK",
        "HIDE",
        "VIEW",
        "ADD_TO_CART",
        "PURCHASE",
    ]
    assert log.user_rows == {"ann": 0, "zoe": 1}
    assert log.item_rows == {"cup": 0, "mug": 1, "pen": 2}


def test_arrays_have_the_promised_types() -> None:
    log = build(table(ROWS))
    found = {f.name: getattr(log, f.name).dtype for f in fields(Histories)[1:]}
    assert found == {
        "item": np.int32,
        "time": np.int64,
        "kind": np.uint8,
        "price": np.float32,
        "quantity": np.int32,
        "basket": np.int32,
    }
    assert log.user_offsets.dtype == np.int64


def test_unknown_items_are_left_out_and_impressions_are_kept_apart() -> None:
    log = build(table(ROWS))
    assert "bob" not in log.user_ids
    assert "eve" not in log.user_ids
    assert (log.impressions.item.tolist(), log.impressions.user.tolist()) == ([1], [-1])
    without = build(table(ROWS[:5]))
    assert without.impressions.count == 0
    assert_equal(replace(log, impressions=without.impressions), without)


@given(events, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_neither_order_nor_repeated_events_change_the_log(
    drawn: list[tuple[str, str, str, int]], shuffler: np.random.Generator
) -> None:
    rows = [(f"e{i}", *row) for i, row in enumerate(drawn)]
    again = rows + rows[::2]
    shuffler.shuffle(again)
    assert_equal(build(table(rows)), build(table(again)))


@given(events, st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_the_log_before_a_time_is_the_log_of_the_events_before_it(
    drawn: list[tuple[str, str, str, int]], cut: int
) -> None:
    rows = [(f"e{i}", *row) for i, row in enumerate(drawn)]
    whole = build(table(rows))
    known = whole.before(micros(cut))
    assert known.user_ids == whole.user_ids
    assert (known.time < micros(cut)).all()
    expected = build(table([row for row in rows if row[4] < cut]))
    users = np.array([expected.user_rows.get(user, -1) for user in whole.user_ids], np.int64)
    own, reference = known.histories(np.arange(len(users))), expected.histories(users)
    for name in ("offsets", "item", "time", "kind"):
        np.testing.assert_array_equal(getattr(own, name), getattr(reference, name))


def test_an_event_at_the_very_time_is_not_before_it() -> None:
    log = build(table(ROWS))
    assert len(log.before(micros(20)).item) == 1
    assert len(log.before(micros(20) + 1).item) == 4


def test_between_takes_the_start_and_leaves_the_end_in_order_of_time() -> None:
    log = build(table(ROWS))
    assert log.between(micros(10), micros(30)).tolist() == [2, 0, 1, 3]
    assert log.sorted_time.tolist() == sorted(log.time.tolist())
    assert log.between(micros(31), micros(99)).tolist() == []


def test_histories_come_in_the_order_asked_with_strangers_empty() -> None:
    log = build(table(ROWS))
    found = log.histories(np.array([1, -1, 0, 1], np.int64))
    assert found.offsets.tolist() == [0, 3, 3, 5, 8]
    assert found.item.tolist() == [1, 0, 2, 0, 1, 1, 0, 2]
    assert found.request.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    assert found.count == 4
    assert log.histories(np.zeros(0, np.int64)).count == 0


def test_a_log_without_events_knows_strangers_only() -> None:
    log = build(table([]))
    assert log.user_ids == ()
    assert log.item_ids == ("cup", "mug", "pen")
    assert log.histories(np.array([-1, -1], np.int64)).offsets.tolist() == [0, 0, 0]
    assert log.before(micros(0)).item.tolist() == []


def test_histories_are_cut_at_each_requests_own_time() -> None:
    log = build(table(ROWS))
    found = log.histories(np.array([1, 1, 0], np.int64))
    cut = found.before(np.array([micros(20), micros(30), micros(99)]))
    assert cut.offsets.tolist() == [0, 1, 3, 5]
    assert cut.item.tolist() == [1, 1, 0, 0, 1]
    last = cut.rows(1, 3)
    assert last.offsets.tolist() == [0, 2, 4]
    assert last.item.tolist() == [1, 0, 0, 1]


def test_events_of_a_session_share_a_basket() -> None:
    sessions = pl.Series(["s1", "s2", "s1", "s1", "s1", None, None])
    log = build(table(ROWS, session_id=sessions))
    ann, zoe = log.basket[:2], log.basket[2:]
    assert ann[0] == ann[1]
    assert zoe[0] == zoe[1] != zoe[2]
    assert not set(ann.tolist()) & set(zoe.tolist())


def test_without_sessions_events_of_one_second_share_a_basket() -> None:
    rows: list[Row] = [
        ("e1", "zoe", "mug", "click", 7),
        ("e2", "zoe", "pen", "click", 7.5),
        ("e3", "zoe", "cup", "click", 8),
        ("e4", "ann", "cup", "click", 7),
    ]
    for frame in (table(rows), table(rows, session_id=pl.Series([None] * 4, dtype=pl.String))):
        basket = build(frame).basket
        assert basket[1] == basket[2]
        assert len(set(basket.tolist())) == 3


def test_missing_prices_and_quantities_have_their_stand_ins() -> None:
    bare = build(table(ROWS[:3]))
    assert np.isnan(bare.price).all()
    assert bare.quantity.tolist() == [1, 1, 1]
    priced = build(
        table(ROWS[:3], price=pl.Series([2.5, None, 4]), quantity=pl.Series([3, 2, None]))
    )
    np.testing.assert_array_equal(priced.price, np.array([4, 2.5, np.nan], np.float32))
    assert priced.quantity.tolist() == [1, 3, 2]


def test_over_an_empty_catalogue_nothing_has_happened() -> None:
    log = InteractionLog.build(pl.Series([], dtype=pl.String), table(ROWS).lazy())
    assert (len(log.item_ids), len(log.user_ids), len(log.time)) == (0, 0, 0)


class _Counting:
    def __init__(self) -> None:
        self.asked: list[int] = []
        self.kept = kept_by_hour(self.compute, 2)

    def compute(self, hour: int) -> int:
        self.asked.append(hour)
        return 2 * hour


def test_what_is_kept_by_hour_is_computed_once_and_freed_with_its_owner() -> None:
    owner = _Counting()
    assert [owner.kept(hour) for hour in (1, 2, 1, 2, 3, 1)] == [2, 4, 2, 4, 6, 2]
    assert owner.asked == [1, 2, 3, 1]
    kept, gone = owner.kept, weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert gone() is None, "the owner is part of a reference cycle"
    finally:
        gc.enable()
    with pytest.raises(ReferenceError):
        kept(4)
