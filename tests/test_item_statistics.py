"""Statistics of items: what everybody did up to a full hour, and nothing after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from random_shop import START_US, random_log

from recsys.features import NEVER, ItemStatistics
from recsys.interactions import DAY_US, HOUR_US, EventKind, InteractionLog

ITEMS = 30
AS_OF = START_US + 100 * DAY_US + HOUR_US // 3
BUY, CLICK = EventKind.PURCHASE, EventKind.CLICK


def bought_on(days: dict[str, tuple[str, list[int]]]) -> InteractionLog:
    """Purchases of one item by each shopper, on the given days after the epoch."""
    rows = [
        (f"{user}-{day}", user, item, "purchase", datetime(1970, 1, 1, tzinfo=UTC) + timedelta(day))
        for user, (item, all_days) in days.items()
        for day in all_days
    ]
    names = ["event_id", "user_id", "item_id", "event_type", "event_time"]
    events = pl.DataFrame(rows, schema=names, orient="row")
    return InteractionLog.build(events["item_id"], events.lazy())


def test_statistics_are_counts_over_the_events_before_the_hour() -> None:
    log = random_log(6)
    statistics = ItemStatistics.at(log, AS_OF)
    hour = AS_OF - AS_OF % HOUR_US
    assert statistics.hour == hour
    past = log.time < hour
    buyers, rebuyers = 0, np.zeros(ITEMS)
    for item in range(ITEMS):
        bought = past & (log.item == item) & (log.kind == BUY)
        clicked = past & (log.item == item) & np.isin(log.kind, [EventKind.VIEW, CLICK])
        for row, days in enumerate((7, 14, 30, 90, 400)):
            recent = log.time >= hour - days * DAY_US
            assert statistics.purchases[row, item] == (bought & recent).sum()
            assert statistics.clicks[row, item] == (clicked & recent).sum()
        times = log.time[bought]
        assert statistics.first_sold[item] == (times.min() if len(times) else NEVER)
        assert statistics.last_sold[item] == (times.max() if len(times) else NEVER)
        assert statistics.buyers[item] == len(set(log.user[bought]))
        baskets = {(u, b) for u, b in zip(log.user[bought], log.basket[bought], strict=True)}
        again = [u for u in set(log.user[bought]) if sum(v == u for v, _ in baskets) > 1]
        buyers += len(set(log.user[bought]))
        rebuyers[item] = len(again)
        mean = log.price[bought].mean() if bought.any() else np.nan
        np.testing.assert_allclose(statistics.mean_price[item], mean, rtol=1e-5)
        pieces = log.quantity[bought].mean() if bought.any() else np.nan
        np.testing.assert_allclose(statistics.mean_quantity[item], pieces, rtol=1e-5)
    usual = rebuyers.sum() / buyers
    rate = (rebuyers + 5 * usual) / (statistics.buyers + 5)
    np.testing.assert_allclose(statistics.rebuy_rate, rate, rtol=1e-5)


def test_the_usual_rebuy_interval_of_an_item_leans_on_that_of_all() -> None:
    days = {"a": ("x", [0, 4, 8]), "b": ("x", [2, 18]), "c": ("y", [5, 6]), "d": ("z", [3])}
    log = bought_on(days)
    found = ItemStatistics.at(log, 50 * DAY_US).rebuy_days
    logs = {"x": np.log([4, 4, 16]), "y": np.log([1]), "z": np.array([])}
    everywhere = np.concatenate(list(logs.values())).mean()
    for row, item in enumerate(log.item_ids):
        usual = (logs[item].sum() + 5 * everywhere) / (len(logs[item]) + 5)
        assert found[row] == pytest.approx(np.exp(usual), rel=1e-6)
    kinds = np.array([2, 2, -1], np.int32)
    alike = ItemStatistics.at(log, 50 * DAY_US, kinds).rebuy_days
    of_kind = (logs["x"].sum() + logs["y"].sum() + 5 * everywhere) / (4 + 5)
    assert alike[0] == pytest.approx(np.exp((logs["x"].sum() + 5 * of_kind) / (3 + 5)), rel=1e-6)
    assert alike[2] == pytest.approx(np.exp(everywhere), rel=1e-6)
    first_only = ItemStatistics.at(log, DAY_US).rebuy_days
    assert np.isnan(first_only).all()


def test_statistics_are_the_same_within_an_hour() -> None:
    log = random_log(6, impressions=300)
    hour = AS_OF - AS_OF % HOUR_US
    first, last = ItemStatistics.at(log, hour), ItemStatistics.at(log, hour + HOUR_US - 1)
    for name, values in vars(first).items():
        np.testing.assert_array_equal(values, getattr(last, name))
