"""The interaction log: who did what to which item when, as sorted arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.interactions.event_columns import distinct, optional_column, row_of
from recsys.interactions.histories import EventKind, Histories
from recsys.interactions.impressions import CLICK_TYPES, Impressions, ShownItems
from recsys.interactions.searches import Searches

KIND_OF_EVENT_TYPE = {kind.name.lower(): int(kind) for kind in EventKind}


@dataclass(frozen=True)
class InteractionLog:
    """All events, sorted by (user, time, event id), and impressions apart; ids replaced by rows.

    The same events in another order, or with exact duplicates of an `event_id`, give equal arrays.

    Attributes:
        user_ids: sorted, distinct; a user's row is its place here.
        item_ids: sorted, distinct; an item's row is its place here (the whole catalogue).
        user_offsets: int64 (users + 1,), user u owns rows `user_offsets[u]:user_offsets[u + 1]`.
        item: int32 (m,), item rows.
        time: int64 (m,), microseconds since the epoch, UTC.
        kind: uint8 (m,), values of `EventKind`.
        price: float32 (m,), NaN where the log has none.
        quantity: int32 (m,), 1 where the log has none.
        basket: int32 (m,), equal for events of one shopper's session; where the log has no
            sessions, for events of the same shopper and second.
        impressions: what was shown; no part of the arrays above or of histories. A shopper without
            any other event has no user row.
        searches: what shoppers with a user row searched for; no part of histories either.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    user_offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    kind: NDArray[np.uint8]
    price: NDArray[np.float32]
    quantity: NDArray[np.int32]
    basket: NDArray[np.int32]
    impressions: Impressions
    searches: Searches

    @classmethod
    def build(cls, item_ids: pl.Series, events: pl.LazyFrame) -> InteractionLog:
        """Read the log from an `events` table; events on unknown items are left out.

        Args:
            item_ids: the catalogue's ids, any order.
            events: rows of the `events` contract; optional columns may be missing.
        """
        catalogue = item_ids.unique().sort()
        frame = _numbered(catalogue, events)
        users = frame["user_id"].unique().sort()
        frame = frame.with_columns(row_of("user_id", users).alias("user"))
        user = frame["user"].to_numpy()
        clicks = frame.filter(pl.col("event_type").is_in(CLICK_TYPES))
        counts = np.bincount(user, minlength=len(users))
        return cls(
            user_ids=tuple(users),
            item_ids=tuple(catalogue),
            user_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            item=frame["item"].to_numpy().astype(np.int32),
            time=frame["event_time"].to_physical().to_numpy().astype(np.int64),
            kind=frame["kind"].to_numpy().astype(np.uint8),
            price=frame["price"].to_numpy().astype(np.float32),
            quantity=frame["quantity"].to_numpy().astype(np.int32),
            basket=frame["basket"].to_numpy().astype(np.int32),
            impressions=Impressions.build(catalogue, users, events, clicks),
            searches=Searches.build(users, events),
        )

    @cached_property
    def user_rows(self) -> dict[str, int]:
        """Row of each user id."""
        return {user_id: row for row, user_id in enumerate(self.user_ids)}

    @cached_property
    def item_rows(self) -> dict[str, int]:
        """Row of each item id."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def user(self) -> NDArray[np.int32]:
        """int32 (m,): the user row of each event."""
        return np.repeat(np.arange(len(self.user_ids), dtype=np.int32), np.diff(self.user_offsets))

    @cached_property
    def pair(self) -> NDArray[np.int64]:
        """int64 (m,): `user row * items + item row` of each event."""
        return self.user.astype(np.int64) * len(self.item_ids) + self.item

    @property
    def taken(self) -> NDArray[np.int64]:
        """Positions of the purchases; of all interest, if nothing was ever bought."""
        bought = np.flatnonzero(self.kind == EventKind.PURCHASE)
        return bought if len(bought) else np.flatnonzero(self.kind != EventKind.HIDE)

    @cached_property
    def by_time(self) -> NDArray[np.int64]:
        """int64 (m,): positions of the events by time; ties keep (user, event id) order."""
        return np.argsort(self.time, kind="stable")

    @cached_property
    def sorted_time(self) -> NDArray[np.int64]:
        """int64 (m,): `time[by_time]`."""
        return self.time[self.by_time]

    def between(self, start: int, end: int) -> NDArray[np.int64]:
        """Positions of the events with `start <= time < end` (microseconds), in order of time."""
        first, last = np.searchsorted(self.sorted_time, [start, end], side="left")
        return self.by_time[first:last]

    def before(self, time: int) -> InteractionLog:
        """The log as it stood at `time`: what came strictly before it; same user and item rows."""
        keep = self.time < time
        offsets = np.concatenate([[0], np.cumsum(keep)])[self.user_offsets].astype(np.int64)
        columns = {name: getattr(self, name)[keep] for name in _event_columns()}
        return replace(
            self,
            user_offsets=offsets,
            impressions=self.impressions.before(time),
            searches=self.searches.before(time),
            **columns,
        )

    def moved(self, place: NDArray[np.int64], item_ids: Sequence[str]) -> InteractionLog:
        """The log in another catalogue; what happened to items that are not there is left out.

        Args:
            place: int64 (items of this log,), new rows in the same order; -1 for what is gone.
            item_ids: of the other catalogue, sorted.
        """
        keep = place[self.item] >= 0
        columns = {name: getattr(self, name)[keep] for name in _event_columns()}
        columns["item"] = place[columns["item"]].astype(np.int32)
        return replace(
            self,
            item_ids=tuple(item_ids),
            user_offsets=np.concatenate([[0], np.cumsum(keep)])[self.user_offsets].astype(np.int64),
            impressions=self.impressions.moved(place),
            **columns,
        )

    def histories(self, users: NDArray[np.int64]) -> Histories:
        """Histories of the given user rows, in order; row -1 stands for an unknown shopper."""
        bounds = np.append(self.user_offsets, self.user_offsets[-1])
        rows = np.where(users >= 0, users, len(self.user_ids))
        starts = bounds[rows]
        lengths = bounds[rows + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        take = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)
        columns = {name: getattr(self, name)[take] for name in _event_columns()}
        return Histories(offsets=offsets, **columns)

    def shown_to(self, users: NDArray[np.int64]) -> ShownItems:
        """What the given user rows were shown, in order; nothing for row -1."""
        order, bounds = self._impressions_by_user
        starts = bounds[users + 1]
        lengths = np.where(users >= 0, bounds[users + 2] - starts, 0)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        take = order[np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)]
        impressions = self.impressions
        return ShownItems(
            offsets,
            impressions.item[take],
            impressions.time[take],
            impressions.position[take],
            impressions.click_times(take),
        )

    @cached_property
    def _impressions_by_user(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Places of the impressions by user and time, and where each user begins, from row -1."""
        user = self.impressions.user
        counts = np.bincount(user + 1, minlength=len(self.user_ids) + 1)
        order = np.argsort(user, kind="stable").astype(np.int32)
        return order, np.concatenate([[0], np.cumsum(counts)])


def _event_columns() -> list[str]:
    return [f.name for f in fields(Histories) if f.name != "offsets"]


def _numbered(items: pl.Series, events: pl.LazyFrame) -> pl.DataFrame:
    """Event rows with item rows, kinds and baskets as integers, in the log's order."""
    present = events.collect_schema().names()
    session = optional_column(present, "session_id", pl.String())
    rows = (
        events.filter(pl.col("event_type").cast(pl.String) != "impression")
        .select(
            "event_id",
            "user_id",
            pl.col("event_type").cast(pl.String),
            pl.col("event_time").cast(pl.Datetime("us", "UTC")),
            optional_column(present, "price", pl.Float32(), float("nan")),
            optional_column(present, "quantity", pl.Int32(), 1.0),
            session,
            optional_column(present, "attribution_token", pl.String()),
            row_of("item_id", items).alias("item"),
        )
        .drop_nulls("item")
        .collect(engine="streaming")
        .sort("user_id", "event_time", "event_id", "item", "event_type")
    )
    return (
        distinct(rows, "event_id")
        .with_columns(
            kind=pl.col("event_type").replace_strict(KIND_OF_EVENT_TYPE, return_dtype=pl.UInt8),
            session=pl.coalesce("session_id", pl.col("event_time").dt.epoch("s").cast(pl.String)),
        )
        .with_columns(basket=pl.struct("user_id", "session").rank("dense").cast(pl.Int32))
    )
