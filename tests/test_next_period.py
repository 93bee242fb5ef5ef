"""The next-period protocol on small and on real logs, its baselines and its peers."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_shop import CUT, ITEMS, Row, event_table, small_rows

from recsys.errors import EmptyTableError
from recsys.evaluation import (
    ItemSets,
    NextPeriod,
    history_segments,
    item_segments,
    ndcg,
    next_period,
    popularity,
    recall,
    truth_kind,
)
from recsys.interactions import EventKind, InteractionLog
from training.peers import bm25_knn, event_matrix, purchase_matrix
from training.report_systems import Shop, rank_catalogue, scorers

US = 1_000_000
CUT_US = int(CUT.timestamp()) * US
DAY = timedelta(days=1)
FOREVER = 2**62
KNOWN = [
    ("ann", "a", "purchase", CUT - DAY),
    ("ann", "b", "purchase", CUT - 2 * DAY),
    ("ann", "a", "purchase", CUT + DAY),
    ("ann", "c", "purchase", CUT + DAY),
    ("ann", "c", "purchase", CUT + 2 * DAY),
    ("bob", "a", "click", CUT - DAY),
    ("bob", "a", "purchase", CUT + DAY),
    ("cid", "a", "purchase", CUT + DAY),
    ("dan", "a", "purchase", CUT - DAY),
    ("eve", "a", "hide", CUT - DAY),
    ("eve", "b", "purchase", CUT + DAY),
    ("fay", "b", "purchase", CUT - 40 * DAY),
    ("fay", "b", "purchase", CUT + DAY),
    ("gus", "a", "view", CUT - DAY),
    ("gus", "z", "purchase", CUT),
    ("gus", "b", "purchase", CUT + 9 * DAY),
]


def log_of(rows: list[Row], items: str | tuple[str, ...] = "abcz") -> InteractionLog:
    return InteractionLog.build(pl.Series(list(items)), event_table(rows).lazy())


def named(log: InteractionLog, period: NextPeriod, sets: ItemSets) -> dict[str, set[str]]:
    return {
        log.user_ids[user]: {log.item_ids[row] for row in sets.take(np.array([place])).item}
        for place, user in enumerate(period.users)
    }


def test_truth_is_what_customers_with_a_history_buy_in_the_period() -> None:
    log = log_of(KNOWN)
    period = next_period(log, CUT_US, CUT_US + 9 * 86_400 * US)
    assert named(log, period, period.truth) == {
        "ann": {"a", "c"},
        "bob": {"a"},
        "fay": {"b"},
        "gus": {"z"},  # at the cut counts as after it; at the end no more
    }
    assert named(log, period, period.owned) == {
        "ann": {"a", "b"},
        "bob": set(),
        "fay": {"b"},
        "gus": set(),
    }
    assert period.history_items.tolist() == [2, 1, 1, 1]


def test_new_items_leave_out_what_was_bought_before() -> None:
    log = log_of(KNOWN)
    new = next_period(log, CUT_US, FOREVER).new_items()
    assert named(log, new, new.truth) == {"ann": {"c"}, "bob": {"a"}, "gus": {"b", "z"}}


def test_clicks_are_the_truth_where_nothing_was_ever_bought() -> None:
    clicks = [(user, item, "click", time) for user, item, _, time in KNOWN]
    log = log_of(clicks)
    assert truth_kind(log) == EventKind.CLICK
    assert named(log, (p := next_period(log, CUT_US, FOREVER)), p.truth)["ann"] == {"a", "c"}


def test_period_without_customers_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EmptyTableError, match=r"a purchase after it; choose a period inside"):
        next_period(log_of(KNOWN), CUT_US + 100 * 86_400 * US, FOREVER)


def test_history_buckets_hold_every_customer_once() -> None:
    period = next_period(log_of(KNOWN), CUT_US, FOREVER)
    for size, name in ((1, "1-4"), (4, "1-4"), (5, "5-19"), (20, "20-99"), (100, "100+")):
        sized = NextPeriod(
            period.kind, period.users, period.truth, period.owned, np.full(len(period.users), size)
        )
        inside = {key for key, mask in history_segments(sized).items() if mask.all()}
        assert inside == {f"{name} items"}


def test_item_segments_divide_the_catalogue_by_purchases_before_the_cut() -> None:
    early = [(f"u{n}", "a", "purchase", CUT - DAY) for n in range(5)]
    late = [(f"u{n}", "b", "purchase", CUT + DAY) for n in range(9)]
    log = log_of([*early, *late, ("u0", "b", "purchase", CUT - DAY)])
    seen = np.array([True, True, True, False])
    segments = item_segments(log, CUT_US, seen)
    assert {name: mask.tolist() for name, mask in segments.items()} == {
        "head items": [True, False, False, False],
        "tail items": [False, True, True, False],
        "cold items": [False, False, False, True],
    }


def test_popularity_counts_distinct_buyers_within_the_window() -> None:
    log = log_of([*KNOWN, ("ann", "a", "purchase", CUT - 3 * DAY)])
    assert popularity(log, CUT_US, EventKind.PURCHASE).tolist() == [2, 1, 0, 0]
    assert popularity(log, CUT_US, EventKind.PURCHASE, days=60).tolist() == [2, 2, 0, 0]


def test_knn_scores_are_those_of_implicit() -> None:
    from implicit.nearest_neighbours import BM25Recommender  # noqa: PLC0415

    log = log_of(small_rows(), ITEMS)
    matrix = event_matrix(log, CUT_US)
    users = np.arange(10)
    ours = bm25_knn(matrix, np.arange(len(ITEMS), dtype=np.uint64)[::-1], 1)(users)
    peer = BM25Recommender(K=200, num_threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # implicit converts its own weighted matrix and says so
        peer.fit(matrix, show_progress=False)
    for user in users.tolist():
        ids, scores = peer.recommend(user, matrix[user], 10, filter_already_liked_items=False)
        np.testing.assert_allclose(ours[user, ids], scores)
        np.testing.assert_allclose(np.sort(ours[user])[::-1][:10], scores)


def test_events_after_the_cut_change_no_list_of_baselines_and_peers() -> None:
    before = [row for row in small_rows() if row[3] < CUT]
    logs = [log_of(rows, ITEMS) for rows in (before, small_rows())]
    seen = np.ones(len(ITEMS), np.bool_)
    for new in (False, True):
        lists = []
        for log in logs:
            shop = Shop(log, seen, CUT_US, 1)
            period = next_period(logs[1], CUT_US, FOREVER)
            found = scorers(shop, 1, peers=True).values()
            lists.append(
                [rank_catalogue(shop, period, one, lambda _: None, new=new) for one in found]
            )
        np.testing.assert_array_equal(lists[0], lists[1])


def test_gift_shop_gives_the_published_baselines(retail_path: Path) -> None:
    lines = pl.scan_parquet(retail_path).filter(
        pl.col("CustomerID").is_not_null(),
        pl.col("Quantity") > 0,
        pl.col("Price") > 0,
        pl.col("StockCode").str.contains(r"^\d{5}"),
    )
    events = lines.with_row_index("event_id").select(
        pl.col("event_id").cast(pl.String),
        user_id=pl.col("CustomerID").cast(pl.String),
        item_id="StockCode",
        event_type=pl.lit("purchase"),
        event_time=pl.col("InvoiceDate").dt.replace_time_zone("UTC"),
    )
    log = InteractionLog.build(events.select("item_id").collect()["item_id"], events)
    cut = int(datetime(2010, 11, 9, tzinfo=UTC).timestamp()) * US
    shop = Shop(log, np.ones(len(log.item_ids), np.bool_), cut, 1)
    bought = purchase_matrix(log, cut, EventKind.PURCHASE)
    systems = scorers(shop, 1, peers=False) | {"knn": bm25_knn(bought, shop.item_hashes, 1)}
    period = next_period(log, cut, FOREVER)
    assert (len(period.users), len(period.new_items().users)) == (1_325, 1_224)
    published = {
        ("popularity", False): (0.145, 0.096),
        ("popularity", True): (0.076, 0.073),
        ("knn", False): (0.263, 0.219),
        ("knn", True): (0.089, 0.088),
    }
    for (name, new), expected in published.items():
        some = period.new_items() if new else period
        ranked = rank_catalogue(shop, some, systems[name], lambda _: None, new=new)
        found = ndcg(ranked, some.truth, 10).mean(), recall(ranked, some.truth, 20).mean()
        assert found == pytest.approx(expected, abs=0.003)
