"""Impressions: kept apart from histories, cut in time, and joined with the clicks on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_shop import START_US, log_of, random_events, random_impressions, random_log

from recsys.interactions import DAY_US, NOT_CLICKED, Impressions, InteractionLog

START = datetime(2031, 3, 1, tzinfo=UTC)
CATALOGUE = pl.Series(["a", "b", "c"])
SCHEMA = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "item_id": pl.String(),
    "event_type": pl.String(),
    "event_time": pl.Datetime("us", "UTC"),
    "attribution_token": pl.String(),
    "session_id": pl.String(),
    "position": pl.Int32(),
}
Row = tuple[str, str, str, str, float, str | None, str | None, int | None]
"""Event, user, item, type, seconds after `START`, token, session, position."""


def build(rows: Sequence[Row]) -> InteractionLog:
    timed = [(*row[:4], START + timedelta(seconds=row[4]), *row[5:]) for row in rows]
    events = pl.DataFrame(timed, schema=SCHEMA, orient="row")
    return InteractionLog.build(CATALOGUE, events.lazy())


def micros(seconds: float) -> int:
    return int(START.timestamp()) * 1_000_000 + int(seconds * 1_000_000)


def assert_equal(one: Impressions, other: Impressions) -> None:
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values, getattr(other, name), err_msg=name)


def clicks_of(impressions: Impressions) -> list[tuple[int, float]]:
    """(impression, seconds after `START`) of each click."""
    seconds = (impressions.click_time - micros(0)) / 1_000_000
    return list(zip(impressions.clicked.tolist(), seconds.tolist(), strict=True))


def test_impressions_are_sorted_by_time_with_rows_for_ids() -> None:
    found = build(
        [
            ("e1", "zoe", "b", "impression", 20, None, None, 4),
            ("e3", "ann", "c", "impression", 10, None, None, None),
            ("e2", "zoe", "a", "impression", 10, None, None, 70_000),
            ("e4", "zoe", "gone", "impression", 10, None, None, 1),
            ("e5", "zoe", "a", "purchase", 90, None, None, None),
        ]
    ).impressions
    assert found.item.tolist() == [0, 2, 1]
    assert found.user.tolist() == [0, -1, 0]
    assert found.time.tolist() == [micros(10), micros(10), micros(20)]
    assert found.position.tolist() == [32_767, -1, 4]
    assert {name: values.dtype for name, values in vars(found).items()} == {
        "item": np.int32,
        "user": np.int32,
        "time": np.int64,
        "position": np.int16,
        "clicked": np.int32,
        "click_time": np.int64,
    }


def test_a_table_without_the_optional_columns_has_impressions_without_positions() -> None:
    rows = [("e1", "ann", "a", "impression", START), ("e2", "ann", "a", "click", START)]
    events = pl.DataFrame(rows, schema=dict(list(SCHEMA.items())[:5]), orient="row")
    found = InteractionLog.build(CATALOGUE, events.lazy()).impressions
    assert (found.position.tolist(), found.clicked.tolist()) == ([-1], [0])


SHOWN: tuple[Row, ...] = (
    ("i0", "ann", "a", "impression", 0, "t1", "s1", 0),
    ("i1", "ann", "b", "impression", 0, "t1", "s1", 1),
    ("i2", "bob", "a", "impression", 0, "t2", "s2", 0),
    ("i3", "ann", "a", "impression", 60, "t3", "s1", 0),
    ("i4", "ann", "c", "impression", 60, None, None, 1),
)


@pytest.mark.parametrize(
    ("token", "session", "item", "seconds", "impression"),
    [
        ("t1", "s1", "a", 90, 0),  # the token decides, not the latest impression
        ("t3", "s1", "a", 90, 3),
        (None, "s1", "a", 90, 3),
        (None, "s1", "a", 30, 0),  # the second one has not been shown yet
        ("t9", "s1", "a", 90, 3),  # no impression has the token, some have the session
        ("t9", "s9", "a", 90, None),
        (None, "s9", "a", 90, None),
        (None, None, "a", 90, 3),
        (None, None, "c", 60 + 1800, 4),
        (None, None, "c", 60 + 1801, None),
        ("t1", "s1", "b", 0, 1),  # at the very time
        ("t3", "s1", "a", 59, 0),  # before its token's impression: the session's
        ("t2", "s2", "a", 90, None),  # another shopper's
    ],
)
@pytest.mark.parametrize("kind", ["click", "view"])
def test_a_click_belongs_to_the_impression_it_answers(
    token: str | None,
    session: str | None,
    item: str,
    seconds: float,
    impression: int | None,
    kind: str,
) -> None:
    click: Row = ("e", "ann", item, kind, seconds, token, session, None)
    found = clicks_of(build([*SHOWN, click]).impressions)
    assert found == ([] if impression is None else [(impression, seconds)])


def test_of_several_clicks_on_an_impression_the_first_counts_and_others_than_clicks_never() -> None:
    acts = [("purchase", 5), ("click", 20), ("view", 10), ("add_to_cart", 2), ("hide", 1)]
    rows: list[Row] = [
        (f"e{seconds}", "ann", "a", kind, seconds, "t1", "s1", None) for kind, seconds in acts
    ]
    assert clicks_of(build([*SHOWN, *rows]).impressions) == [(0, 10)]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["a", "b", "gone"]),
        st.sampled_from(["impression", "impression", "click", "view", "purchase"]),
        st.integers(0, 6),
        st.sampled_from([None, "t1", "t2"]),
        st.sampled_from([None, "s1", "s2"]),
        st.sampled_from([None, 0, 3]),
    ),
    max_size=14,
)


@given(EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_neither_order_nor_repeated_events_change_impressions(
    drawn: list[tuple[str, str, str, int, str | None, str | None, int | None]],
    shuffler: np.random.Generator,
) -> None:
    rows: list[Row] = [(f"e{number}", *row) for number, row in enumerate(drawn)]
    again = rows + rows[::2]
    shuffler.shuffle(again)
    assert_equal(build(rows).impressions, build(again).impressions)


@given(EVENTS, st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_impressions_before_a_time_are_those_of_the_events_before_it(
    drawn: list[tuple[str, str, str, int, str | None, str | None, int | None]], cut: int
) -> None:
    rows: list[Row] = [(f"e{number}", *row) for number, row in enumerate(drawn)]
    whole = build(rows)
    expected = build([row for row in rows if row[4] < cut])
    found = whole.before(micros(cut)).impressions
    users = [-1 if u < 0 else expected.user_rows.get(whole.user_ids[u], -1) for u in found.user]
    assert_equal(replace(found, user=np.array(users, np.int32)), expected.impressions)
    assert found.is_sound()


def test_impressions_since_a_time_keep_their_clicks() -> None:
    whole = random_log(1, impressions=300).impressions
    late = whole.since(START_US + 60 * DAY_US)
    assert 0 < late.count < whole.count
    assert late.time.tolist() == whole.time[whole.time >= START_US + 60 * DAY_US].tolist()
    offset = whole.count - late.count
    everything = whole.click_times(np.arange(whole.count))
    np.testing.assert_array_equal(late.click_times(np.arange(late.count)), everything[offset:])
    assert len(late.clicked) == (everything[offset:] != NOT_CLICKED).sum() > 0


def test_what_shoppers_were_shown_comes_in_the_order_asked_oldest_first() -> None:
    click: Row = ("e", "ann", "a", "click", 90, "t1", "s1", None)
    purchase: Row = ("f", "bob", "a", "purchase", 90, None, None, None)
    log = build([*SHOWN, click, purchase])
    found = log.shown_to(np.array([1, -1, 0]))
    assert found.offsets.tolist() == [0, 1, 1, 5]
    assert found.item.tolist() == [0, 0, 1, 0, 2]
    assert found.time.tolist() == [micros(s) for s in (0, 0, 0, 60, 60)]
    assert found.click_time.tolist() == [NOT_CLICKED, micros(90), *[NOT_CLICKED] * 3]
    early = found.before(np.array([micros(90), micros(90), micros(60)]))
    assert early.offsets.tolist() == [0, 1, 1, 3]
    assert (early.click_time == NOT_CLICKED).all()
    assert early.rows(2, 3).item.tolist() == [0, 1]
    assert log.shown_to(np.zeros(0, np.int64)).count == 0


def test_a_shopper_who_never_acts_is_counted_but_has_no_row() -> None:
    log = build([SHOWN[0], ("e", "bob", "a", "purchase", 90, None, None, None)])
    assert log.user_ids == ("bob",)
    assert log.impressions.user.tolist() == [-1]
    assert len(log.shown_to(np.array([0, -1])).item) == 0


def test_impressions_change_nothing_else_in_a_log() -> None:
    rng = np.random.default_rng(2)
    acts = random_events(rng, 10, 20, 200)
    shown = random_impressions(rng, 10, 20, 100).filter(pl.col("event_type") == "impression")
    log = log_of(acts, 20)
    both = log_of(pl.concat([acts, shown], how="diagonal"), 20)
    assert both.impressions.count == 100
    for name in set(vars(log)) - {"impressions", "searches"}:
        np.testing.assert_array_equal(getattr(log, name), getattr(both, name), err_msg=name)
