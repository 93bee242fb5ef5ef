"""Statistics of items computed in other ways than the product's: with pandas, and by the event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from recsys.features import NEVER, WINDOW_DAYS, ItemStatistics
from recsys.interactions import DAY_US, HOUR_US
from recsys.interactions.impressions import CLICK_TYPES
from recsys.interactions.position_bias import EXPOSURE_DAYS

Counts = dict[str, NDArray[np.number[Any]]]
Peer = Callable[[Sequence[Path], Sequence[str], int], Counts]

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "purchases": ("purchase",),
    "clicks": ("view", "click"),
    "carts": ("add_to_cart",),
    "impressions": ("impression",),
}
CLICKED: Final = "clicked impressions"
KEYS: Final = ["attribution_token", "session_id"]
ANONYMOUS_US: Final = HOUR_US // 2
"""As `ATTRIBUTION_TIME`."""

COLUMNS: Final = ["event_id", "user_id", "item_id", "event_type", "event_time", "price"]


def counts_of(statistics: ItemStatistics) -> Counts:
    """The product's own figures of what the peers compute."""
    names = ("purchases", "clicks", "carts", "buyers", "first_sold", "last_sold", "mean_price")
    counts: Counts = {name: getattr(statistics, name) for name in names}
    exposure = statistics.exposure
    return counts | {"impressions": exposure.impressions, CLICKED: exposure.clicks}


def with_pandas(files: Sequence[Path], item_ids: Sequence[str], hour: int) -> Counts:
    """Whole columns at a time, in a data frame."""
    table = pd.concat([pd.read_parquet(file, columns=COLUMNS) for file in files])
    table = table.drop_duplicates("event_id").sort_values(["event_time", "event_id"])
    table["item"] = pd.Categorical(table["item_id"], categories=item_ids).codes
    table["time"] = table["event_time"].dt.as_unit("us").astype("int64")
    table = table[(table["item"] >= 0) & (table["time"] < hour)]
    everything = pd.RangeIndex(len(item_ids))
    counts: Counts = {}
    for name, types in KINDS.items():
        own = table[table["event_type"].isin(types)]
        counts[name] = np.stack(
            [
                own[own["time"] >= hour - days * DAY_US]
                .groupby("item")
                .size()
                .reindex(everything, fill_value=0)
                .to_numpy()
                for days in _windows(name)
            ]
        )
    sold = table[table["event_type"] == "purchase"].groupby("item")
    times = sold["time"].agg(["min", "max"]).reindex(everything, fill_value=NEVER)
    buyers = sold["user_id"].nunique().reindex(everything, fill_value=0)
    return counts | {
        "buyers": buyers.to_numpy(),
        "first_sold": times["min"].to_numpy(),
        "last_sold": times["max"].to_numpy(),
        "mean_price": sold["price"].mean().reindex(everything).to_numpy(),
    }


def by_the_event(files: Sequence[Path], item_ids: Sequence[str], hour: int) -> Counts:
    """One event after the other into counters, as a service does that follows a stream.

    The files have to be in order of time.
    """
    follower = _Follower(item_ids, hour)
    seen: set[str] = set()
    for file in files:
        events = pl.read_parquet(file, columns=[*COLUMNS, *KEYS])
        for event_id, *event in events.with_columns(pl.col("event_time").dt.epoch()).iter_rows():
            if event_id not in seen:
                seen.add(event_id)
                follower.add(*event)
    return follower.counts()


class _Follower:
    """Counters of each item, histories of each shopper, and what a click can belong to."""

    def __init__(self, item_ids: Sequence[str], hour: int) -> None:
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}
        self._hour = hour
        self._name_of = {kind: name for name, types in KINDS.items() for kind in types}
        self._windows = {
            name: [(hour - days * DAY_US, [0] * len(item_ids)) for days in _windows(name)]
            for name in (*KINDS, CLICKED)
        }
        self._buyers: list[set[str]] = [set() for _ in item_ids]
        self._sold: list[list[int]] = [[] for _ in item_ids]
        self._paid: list[list[float]] = [[] for _ in item_ids]
        self._histories: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        self._shown: dict[tuple[str, ...], list[int]] = {}

    def add(
        self, user: str, item: str, kind: str, time: int, price: float | None, *keys: str | None
    ) -> None:
        row = self._rows.get(item)
        if row is None or time >= self._hour:
            return
        self._count(self._name_of.get(kind, ""), row, time)
        if kind == "impression":
            impression = [time, 0]
            for key in ("", *filter(None, keys)):
                self._shown[user, item, key] = impression
            return
        self._histories[user].append((row, time, kind))
        if kind == "purchase":
            self._buyers[row].add(user)
            self._sold[row].append(time)
            if price is not None:
                self._paid[row].append(price)
        elif kind in CLICK_TYPES:
            self._click(user, item, time, [key for key in keys if key])

    def _click(self, user: str, item: str, time: int, keys: Sequence[str]) -> None:
        found = [
            self._shown[user, item, key]
            for key in keys or ("",)
            if (user, item, key) in self._shown
        ]
        if found and (keys or time - found[0][0] <= ANONYMOUS_US) and not found[0][1]:
            found[0][1] = 1
            self._count(CLICKED, self._rows[item], found[0][0])

    def _count(self, name: str, row: int, time: int) -> None:
        for since, count in self._windows.get(name, ()):
            count[row] += time >= since

    def counts(self) -> Counts:
        counts: Counts = {
            name: np.array([count for _, count in windows])
            for name, windows in self._windows.items()
        }
        means = [sum(paid) / len(paid) if paid else np.nan for paid in self._paid]
        return counts | {
            "buyers": np.array([len(buyers) for buyers in self._buyers]),
            "first_sold": np.array([min(times, default=NEVER) for times in self._sold]),
            "last_sold": np.array([max(times, default=NEVER) for times in self._sold]),
            "mean_price": np.array(means),
        }


def _windows(name: str) -> tuple[int, ...]:
    return EXPOSURE_DAYS if name in {"impressions", CLICKED} else WINDOW_DAYS


PEERS: Final[Mapping[str, Peer]] = {
    "pandas": with_pandas,
    "Python, event by event": by_the_event,
}
