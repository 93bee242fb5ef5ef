"""What everybody did to each item up to a point in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from recsys.features.by_item import popularity_by_item, rates_by_item
from recsys.features.windows import WINDOW_DAYS
from recsys.interactions import (
    DAY_US,
    WEEKDAYS,
    EventKind,
    InteractionLog,
    floor_to_hour,
    weekday,
)
from recsys.interactions.position_bias import Exposure, exposure_at

REBUYS_PRIOR: Final = 5.0
"""Re-buys, or buyers, at the mean of an item's kind that are added to its own."""
NEVER: Final = -(2**63)
"""Stands for "no such time" among int64 times."""


@dataclass(frozen=True)
class ItemStatistics:
    """Counts of each item's events before a full hour; nothing at or after that hour is in them.

    Attributes:
        hour: microseconds since the epoch, UTC; where every window ends (exclusive).
        purchases: float32 (windows, items), purchase events in the last 7, 14, 30, 90, 400
            days.
        clicks: float32 (windows, items), views and clicks.
        carts: float32 (windows, items), put into the cart.
        new_buyers: float32 (windows, items), shoppers whose first purchase of it lies there.
        weekday_purchases: float32 (7, items), all purchase events by day of the week, Monday first.
        exposure: impressions, clicks on them and expected clicks in the last 30 and 90 days.
        buyers: float32 (items,), distinct shoppers who ever bought it.
        first_sold: int64 (items,), time of the first purchase; `NEVER` before one.
        last_sold: int64 (items,), time of the last purchase; `NEVER` before one.
        mean_price: float32 (items,), mean price paid for a piece; NaN where none is known.
        mean_quantity: float32 (items,), mean pieces of a purchase; NaN before one.
        rebuy_days: float32 (items,), geometric mean of the days between two baskets of a shopper
            with the item, shrunk towards that of its kind; NaN while nobody bought again.
        rebuy_rate: float32 (items,), share of its buyers who bought it in two baskets or more,
            shrunk likewise.
    """

    hour: int
    purchases: NDArray[np.float32]
    clicks: NDArray[np.float32]
    carts: NDArray[np.float32]
    new_buyers: NDArray[np.float32]
    weekday_purchases: NDArray[np.float32]
    exposure: Exposure
    buyers: NDArray[np.float32]
    first_sold: NDArray[np.int64]
    last_sold: NDArray[np.int64]
    mean_price: NDArray[np.float32]
    mean_quantity: NDArray[np.float32]
    rebuy_days: NDArray[np.float32]
    rebuy_rate: NDArray[np.float32]

    @cached_property
    def popularity(self) -> Mapping[str, NDArray[np.float32]]:
        """float32 (items,) each, see `popularity_by_item`."""
        return popularity_by_item(self)

    @cached_property
    def rates(self) -> Mapping[str, NDArray[np.float32]]:
        """float32 (items,) each, see `rates_by_item`."""
        return rates_by_item(self)

    @cached_property
    def purchases_ever(self) -> NDArray[np.float32]:
        """float32 (items,): purchase events."""
        total: NDArray[np.float32] = self.weekday_purchases.sum(axis=0)
        return total

    @cached_property
    def weekday_shares(self) -> NDArray[np.float32]:
        """float32 (7,): share of all purchase events by day of the week; zeros without any."""
        counts = self.weekday_purchases
        shares: NDArray[np.float32] = counts.sum(axis=1) / max(float(counts.sum()), 1.0)
        return shares

    @classmethod
    def at(cls, log: InteractionLog, time_us: int, kind: NDArray[np.int32] | None = None) -> Self:
        """Statistics for requests from `time_us` on.

        They end at the last full hour at or before `time_us`: equal for all times within an hour,
        so that a server computes them once an hour and gives what training saw.

        Args:
            log: everybody's events.
            time_us: microseconds since the epoch, UTC.
            kind: int32 (items,), items of one number are bought again alike, -1 is a kind like
                others; None where nothing is known of that.
        """
        hour = floor_to_hour(time_us)
        kinds = np.zeros(len(log.item_ids), np.int64) if kind is None else kind.astype(np.int64) + 1
        past = log.between(NEVER, hour)
        bought = past[log.kind[past] == EventKind.PURCHASE]
        buyers, rebuyers = _buyers(log, bought)
        first_sold, last_sold = _sold(log, bought)
        return cls(
            hour=hour,
            purchases=_windows(log, hour, (EventKind.PURCHASE,)),
            clicks=_windows(log, hour, (EventKind.VIEW, EventKind.CLICK)),
            carts=_windows(log, hour, (EventKind.ADD_TO_CART,)),
            new_buyers=_new_buyers(log, hour, bought),
            weekday_purchases=_by_weekday(log, bought),
            exposure=exposure_at(log.impressions, hour, len(log.item_ids)),
            buyers=buyers,
            first_sold=first_sold,
            last_sold=last_sold,
            mean_price=_mean(log, bought[~np.isnan(log.price[bought])], log.price),
            mean_quantity=_mean(log, bought, log.quantity),
            rebuy_days=_rebuy_days(log, bought, kinds),
            rebuy_rate=_shrunk(rebuyers, buyers, kinds),
        )


def _windows(log: InteractionLog, hour: int, kinds: Sequence[EventKind]) -> NDArray[np.float32]:
    counts = np.zeros((len(WINDOW_DAYS), len(log.item_ids)), np.float32)
    for row, days in enumerate(WINDOW_DAYS):
        events = log.between(hour - days * DAY_US, hour)
        events = events[np.isin(log.kind[events], kinds)]
        counts[row] = np.bincount(log.item[events], minlength=counts.shape[1])
    return counts


def _new_buyers(log: InteractionLog, hour: int, bought: NDArray[np.int64]) -> NDArray[np.float32]:
    _, first = np.unique(log.pair[bought], return_index=True)  # `bought` is in order of time
    item, time = log.item[bought[first]], log.time[bought[first]]
    counts = [
        np.bincount(item[time >= hour - days * DAY_US], minlength=len(log.item_ids))
        for days in WINDOW_DAYS
    ]
    return np.asarray(counts, np.float32)


def _by_weekday(log: InteractionLog, bought: NDArray[np.int64]) -> NDArray[np.float32]:
    items = len(log.item_ids)
    cell = weekday(log.time[bought]) * items + log.item[bought]
    counts = np.bincount(cell, minlength=WEEKDAYS * items)
    return counts.reshape(WEEKDAYS, items).astype(np.float32)


def _buyers(
    log: InteractionLog, bought: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    items = len(log.item_ids)
    in_basket = log.basket[bought].astype(np.int64) * items + log.item[bought]
    _, first = np.unique(in_basket, return_index=True)
    once_a_basket = bought[first]
    buyer = log.user[once_a_basket].astype(np.int64) * items + log.item[once_a_basket]
    pairs, times = np.unique(buyer, return_counts=True)
    distinct = np.bincount(pairs % items, minlength=items)
    again = np.bincount(pairs[times > 1] % items, minlength=items)
    return distinct.astype(np.float32), again.astype(np.float32)


def _sold(
    log: InteractionLog, bought: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first = np.full(len(log.item_ids), NEVER)
    last = np.full(len(log.item_ids), NEVER)
    last[log.item[bought]] = log.time[bought]
    first[log.item[bought][::-1]] = log.time[bought][::-1]
    return first, last


def _mean(
    log: InteractionLog, events: NDArray[np.int64], values: NDArray[np.number[Any]]
) -> NDArray[np.float32]:
    """float32 (items,): mean of the events' values; NaN for an item in none of them."""
    total = np.bincount(log.item[events], values[events], minlength=len(log.item_ids))
    count = np.bincount(log.item[events], minlength=len(log.item_ids))
    mean = np.full(len(log.item_ids), np.nan, np.float32)
    np.divide(total, count, out=mean, where=count > 0, casting="unsafe")
    return mean


def _rebuy_days(
    log: InteractionLog, bought: NDArray[np.int64], kinds: NDArray[np.int64]
) -> NDArray[np.float32]:
    order = bought[np.lexsort((log.time[bought], log.pair[bought]))]
    again = (np.diff(log.pair[order]) == 0) & (np.diff(log.basket[order]) != 0)
    days = np.maximum(np.diff(log.time[order])[again] / DAY_US, 1.0)
    if not len(days):
        return np.full(len(log.item_ids), np.nan, np.float32)
    item, logs = log.item[order[1:]][again], np.log(days)
    total = np.bincount(item, logs, minlength=len(log.item_ids))
    count = np.bincount(item, minlength=len(log.item_ids))
    return np.exp(_shrunk(total, count, kinds)).astype(np.float32)


def _shrunk(
    total: NDArray[np.number[Any]], count: NDArray[np.number[Any]], kinds: NDArray[np.int64]
) -> NDArray[np.float32]:
    """float32 (items,): means `total / count`, shrunk to that of a kind, and this to that of all.

    As if `REBUYS_PRIOR` more had been counted at the mean of the level above.
    """
    overall = float(total.sum()) / max(float(count.sum()), 1.0)
    of_kind = np.bincount(kinds, total) + REBUYS_PRIOR * overall
    usual = (of_kind / (np.bincount(kinds, count) + REBUYS_PRIOR))[kinds]
    return np.asarray((total + REBUYS_PRIOR * usual) / (count + REBUYS_PRIOR), np.float32)
