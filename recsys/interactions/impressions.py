"""Impressions: what was shown to whom at which position, and which of it was clicked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.interactions.event_columns import distinct, optional_column, row_of
from recsys.interactions.ragged import Ragged

UNKNOWN_POSITION: Final = -1
NOT_CLICKED: Final = 2**63 - 1
"""Stands for "no click" among int64 times: later than all of them."""

CLICK_TYPES: Final = ("click", "view")
ATTRIBUTION_TIME: Final = "30m"
"""How long a click without token and session may follow its impression."""

KEYS: Final = ("attribution_token", "session_id")
"""What ties a click to its impression, the surest first."""

HASH_SEED: Final = 1


@dataclass(frozen=True)
class Impressions:
    """What was shown, sorted by (time, event id); for statistics, no part of any history.

    An impression takes 18 bytes and a clicked one 12 more.

    A click or view belongs to the last impression of its item to its shopper, at or before it, that
    has the same attribution token; failing that, the same session; and if the click has neither,
    within 30 minutes. Of several clicks on an impression the first counts.

    Attributes:
        item: int32 (m,), item rows.
        user: int32 (m,), user rows; -1 for shoppers without any event but impressions.
        time: int64 (m,), microseconds since the epoch, UTC; ascending.
        position: int16 (m,), from 0; `UNKNOWN_POSITION` where the log has none.
        clicked: int32 (k,), the impressions that were clicked; ascending.
        click_time: int64 (k,), time of the first click on each of them.
    """

    item: NDArray[np.int32]
    user: NDArray[np.int32]
    time: NDArray[np.int64]
    position: NDArray[np.int16]
    clicked: NDArray[np.int32]
    click_time: NDArray[np.int64]

    @classmethod
    def build(
        cls, items: pl.Series, users: pl.Series, events: pl.LazyFrame, clicks: pl.DataFrame
    ) -> Self:
        """Read impressions from an `events` table, and find those that were clicked.

        Args:
            items: ids of the catalogue, in the order of rows; events on others are left out.
            users: ids of the shoppers with a user row, in the order of rows.
            events: rows of the `events` contract; optional columns may be missing.
            clicks: clicks and views, each shopper's in order of time: `user`, `item` (rows),
                `event_time`, `attribution_token`, `session_id`.
        """
        shown = _shown(items, users, events)
        tokens = clicks.with_columns(_hashed(clicks.columns, name) for name in KEYS)
        found = first_clicks(shown, tokens)
        return cls(
            item=shown["item"].to_numpy(),
            user=shown["user"].fill_null(-1).to_numpy(),
            time=shown["event_time"].to_physical().to_numpy().astype(np.int64),
            position=shown["position"].to_numpy(),
            clicked=found["impression"].to_numpy().astype(np.int32),
            click_time=found["click_time"].to_physical().to_numpy().astype(np.int64),
        )

    @property
    def count(self) -> int:
        """Number of impressions."""
        return len(self.time)

    def before(self, time: int) -> Impressions:
        """What was shown, and clicked, strictly before `time` (microseconds)."""
        end = int(np.searchsorted(self.time, time))
        then = self.click_time < time
        return Impressions(
            item=self.item[:end],
            user=self.user[:end],
            time=self.time[:end],
            position=self.position[:end],
            clicked=self.clicked[then],
            click_time=self.click_time[then],
        )

    def since(self, time: int) -> Impressions:
        """What was shown at or after `time` (microseconds), and the clicks on that."""
        start = int(np.searchsorted(self.time, time))
        first = int(np.searchsorted(self.clicked, start))
        return Impressions(
            item=self.item[start:],
            user=self.user[start:],
            time=self.time[start:],
            position=self.position[start:],
            clicked=(self.clicked[first:] - start).astype(np.int32),
            click_time=self.click_time[first:],
        )

    def moved(self, place: NDArray[np.int64]) -> Impressions:
        """The impressions of another catalogue's items: `place` has the new rows, -1 for none."""
        kept = place[self.item] >= 0
        clicked = kept[self.clicked]
        return Impressions(
            item=place[self.item[kept]].astype(np.int32),
            user=self.user[kept],
            time=self.time[kept],
            position=self.position[kept],
            clicked=(np.cumsum(kept) - 1)[self.clicked[clicked]].astype(np.int32),
            click_time=self.click_time[clicked],
        )

    def click_times(self, impressions: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """int64 (n,): first click on each of the given impressions; `NOT_CLICKED` without one."""
        place = np.searchsorted(self.clicked, impressions)
        found = np.append(self.clicked, -1)[place] == impressions
        return np.where(found, np.append(self.click_time, NOT_CLICKED)[place], NOT_CLICKED)

    def is_sound(self) -> bool:
        """Whether the arrays fit each other."""
        shown = {len(self.item), len(self.user), len(self.position), self.count}
        clicks = self.clicked.astype(np.int64)
        return bool(
            len(shown) == 1
            and len(clicks) == len(self.click_time)
            and (np.diff(clicks) > 0).all()
            and (clicks >= 0).all()
            and (clicks < self.count).all()
        )


@dataclass(frozen=True)
class ShownItems(Ragged):
    """What n requests' shoppers were shown, concatenated; within a request oldest first.

    Attributes:
        item: int32 (m,), item rows.
        time: int64 (m,), microseconds since the epoch, UTC.
        position: int16 (m,), from 0; `UNKNOWN_POSITION` where the log has none.
        click_time: int64 (m,), time of the first click; `NOT_CLICKED` without one.
    """

    item: NDArray[np.int32]
    time: NDArray[np.int64]
    position: NDArray[np.int16]
    click_time: NDArray[np.int64]

    @classmethod
    def empty(cls, count: int) -> Self:
        """`count` requests of shoppers who were shown nothing."""
        return cls(
            np.zeros(count + 1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.int64),
            np.zeros(0, np.int16),
            np.zeros(0, np.int64),
        )

    def before(self, as_of: NDArray[np.int64]) -> ShownItems:
        """What was shown, and clicked, before each request's time (int64 (n,), microseconds)."""
        end = as_of[self.request]
        click_time = np.where(self.click_time < end, self.click_time, NOT_CLICKED)
        return replace(self, click_time=click_time).where(self.time < end)


def first_clicks(shown: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    """Columns `impression` and `click_time`, ascending; the rule is that of `Impressions`.

    Args:
        shown: impressions in order of time, numbered in the column `impression`.
        clicks: clicks and views, each shopper's in order of time.
    """
    shown = shown.join(clicks, on=["user", "item"], how="semi", maintain_order="left")
    anonymous = pl.all_horizontal(pl.col(KEYS).is_null())
    left = clicks.with_row_index("click")
    matches = []
    for key in KEYS:
        matches.append(_last_shown(shown, left, key))
        left = left.join(matches[-1], on="click", how="anti", maintain_order="left")
    matches.append(_last_shown(shown, left.filter(anonymous)))
    return (
        pl.concat(matches)
        .group_by("impression")
        .agg(click_time=pl.col("event_time").min())
        .sort("impression")
    )


def _last_shown(shown: pl.DataFrame, clicks: pl.DataFrame, key: str | None = None) -> pl.DataFrame:
    """Clicks with the last `impression` before them that has the same `key`; others left out."""
    by = ["user", "item", *([key] if key else [])]
    found = clicks.drop_nulls(by).join_asof(
        shown.drop_nulls(by).select(*by, "event_time", "impression"),
        on="event_time",
        by=by,
        strategy="backward",
        tolerance=None if key else ATTRIBUTION_TIME,
        check_sortedness=False,  # polars can't within groups; both are in order of time
    )
    return found.drop_nulls("impression").select("click", "event_time", "impression")


def _shown(items: pl.Series, users: pl.Series, events: pl.LazyFrame) -> pl.DataFrame:
    """Impressions of known items, numbered in order of (time, event id), each `event_id` once.

    Rows stand for ids, and hashes of 64 bits for tokens and sessions: a scan keeps numbers only.
    """
    present = events.collect_schema().names()
    position = optional_column(present, "position", pl.Int32(), UNKNOWN_POSITION)
    shown = (
        events.filter(pl.col("event_type").cast(pl.String) == "impression")
        .select(
            "event_id",
            pl.col("event_time").cast(pl.Datetime("us", "UTC")),
            row_of("item_id", items).alias("item"),
            row_of("user_id", users).alias("user"),
            position.clip(upper_bound=np.iinfo(np.int16).max).cast(pl.Int16),
            *(_hashed(present, name) for name in KEYS),
        )
        .drop_nulls("item")
        .collect(engine="streaming")
        .sort("event_time", "event_id", "user", "item")
    )
    return distinct(shown, "event_id").drop("event_id").with_row_index("impression")


def _hashed(present: Collection[str], name: str) -> pl.Expr:
    """UInt64; two tokens with one hash would have to belong to the same shopper and item."""
    column = optional_column(present, name, pl.String())
    return pl.when(column.is_not_null()).then(column.hash(HASH_SEED)).alias(name)
