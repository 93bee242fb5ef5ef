"""Searches: read from the log once a day, cut in time, kept by shopper."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from random_shop import QUERIES, random_log

from recsys.bundle.log_files import load_log, save_log
from recsys.interactions import InteractionLog, SearchedFor, Searches

START = datetime(2031, 3, 1, 22, tzinfo=UTC)
Row = tuple[str, str, str, float, str | None]
"""User, item, type, hours after `START`, query."""


def build(rows: list[Row]) -> InteractionLog:
    table = [
        (user, item, kind, START + timedelta(hours=hours), q) for user, item, kind, hours, q in rows
    ]
    schema = {
        "user_id": pl.String(),
        "item_id": pl.String(),
        "event_type": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
        "query": pl.String(),
    }
    events = pl.DataFrame(table, schema=schema, orient="row").with_row_index("number")
    named = events.with_columns(event_id=pl.format("e{}", "number")).drop("number")
    return InteractionLog.build(pl.Series(["a", "b"]), named.lazy())


def micros(hours: float) -> int:
    return int((START + timedelta(hours=hours)).timestamp() * 1_000_000)


def read(searches: Searches) -> list[tuple[int, int, str]]:
    """(user, time, query) of each search."""
    places = zip(searches.user.tolist(), searches.time.tolist(), searches.query, strict=True)
    return [(user, time, searches.queries[place]) for user, time, place in places]


def test_the_same_words_on_one_day_are_one_search() -> None:
    log = build(
        [
            ("u", "a", "impression", 0.5, "mug"),
            ("u", "b", "impression", 0.0, " mug "),
            ("u", "a", "click", 1.0, "mug"),
            ("u", "a", "impression", 3.0, "mug"),
            ("u", "a", "impression", 1.0, "tray"),
            ("u", "a", "impression", 1.0, "  "),
            ("u", "a", "impression", 1.0, None),
        ]
    )
    assert log.searches.queries == ("mug", "tray")
    found = [(0, micros(0), "mug"), (0, micros(1), "tray"), (0, micros(3), "mug")]
    assert read(log.searches) == found


def test_searches_of_shoppers_without_any_other_event_are_left_out() -> None:
    log = build([("looker", "a", "impression", 0, "mug"), ("u", "a", "click", 1, None)])
    assert log.user_ids == ("u",)
    assert read(log.searches) == []


def test_a_log_without_queries_has_no_searches() -> None:
    assert read(random_log(1).searches) == []
    assert random_log(1).searches.is_sound()


def test_what_was_searched_for_later_is_not_known() -> None:
    log = random_log(4, impressions=200)
    times = log.searches.time
    cut = int(np.sort(times)[len(times) // 2])
    known = log.before(cut).searches
    assert 0 < len(known.time) < len(times)
    assert read(known) == [row for row in read(log.searches) if row[1] < cut]
    as_of = np.full(3, cut)
    seen = log.searches.by(np.array([0, -1, 5])).before(as_of)
    expected = known.by(np.array([0, -1, 5]))
    for name in ("offsets", "query", "time"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(expected, name))


def test_each_shopper_has_their_own_searches_oldest_first() -> None:
    log = random_log(4, impressions=200)
    users = np.array([3, -1, 0, 3])
    found = log.searches.by(users)
    assert found.count == 4
    everything = read(log.searches)
    for request, user in enumerate(users.tolist()):
        own = found.rows(request, request + 1)
        texts = [log.searches.queries[place] for place in own.query]
        asked = list(zip(own.time.tolist(), texts, strict=True))
        assert asked == [(time, text) for who, time, text in everything if who == user]
    assert set(log.searches.queries) == set(QUERIES)
    assert len(found.request) == len(found.query)
    assert SearchedFor.empty(2).count == 2


def test_they_are_read_back_with_the_log(tmp_path: Path) -> None:
    log = random_log(4, impressions=60)
    save_log(log, tmp_path)
    assert read(load_log(tmp_path).searches) == read(log.searches)


@pytest.mark.parametrize("broken", ["short", "unknown", "unsorted"])
def test_arrays_that_do_not_belong_together_are_noticed(broken: str) -> None:
    found = random_log(4, impressions=60).searches
    assert found.is_sound()
    damaged = {
        "short": Searches(found.queries, found.user, found.time[1:], found.query),
        "unknown": Searches(found.queries[:1], found.user, found.time, found.query),
        "unsorted": Searches(found.queries, found.user[::-1], found.time, found.query),
    }
    assert not damaged[broken].is_sound()
