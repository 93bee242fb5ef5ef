"""Searches: who looked for which words when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.interactions.event_columns import optional_column, row_of
from recsys.interactions.ragged import Ragged


@dataclass(frozen=True)
class Searches:
    """What shoppers searched for, sorted by (user, time, query).

    The same words of a shopper on one day count once, at their first time: the pages of one search,
    and what was clicked on them, all carry its query.

    Attributes:
        queries: distinct, sorted, without blanks at their ends; as typed otherwise.
        user: int32 (m,), user rows; ascending.
        time: int64 (m,), microseconds since the epoch, UTC.
        query: int32 (m,), places in `queries`.
    """

    queries: tuple[str, ...]
    user: NDArray[np.int32]
    time: NDArray[np.int64]
    query: NDArray[np.int32]

    @classmethod
    def build(cls, users: pl.Series, events: pl.LazyFrame) -> Self:
        """Read the queries of an `events` table; they may come with events of any type.

        Args:
            users: ids of the shoppers with a user row, in the order of rows; others are left out.
            events: rows of the `events` contract; `query` may be missing.
        """
        query = optional_column(events.collect_schema().names(), "query", pl.String())
        time = pl.col("event_time").cast(pl.Datetime("us", "UTC"))
        found = (
            events.filter(query.is_not_null())
            .select(row_of("user_id", users).alias("user"), query.str.strip_chars(), time=time)
            .filter((pl.col("query") != "") & pl.col("user").is_not_null())
            .group_by("user", "query", day=pl.col("time").dt.date())
            .agg(pl.col("time").min())
            .collect(engine="streaming")
            .sort("user", "time", "query")
        )
        queries = found["query"].unique().sort()
        place = found["query"].cast(pl.Enum(queries)).to_physical().to_numpy()
        return cls(
            queries=tuple(queries),
            user=found["user"].to_numpy().astype(np.int32),
            time=found["time"].to_physical().to_numpy().astype(np.int64),
            query=place.astype(np.int32),
        )

    def before(self, time: int) -> Searches:
        """The searches strictly before `time` (microseconds); same places in `queries`."""
        known = self.time < time
        return Searches(self.queries, self.user[known], self.time[known], self.query[known])

    def by(self, users: NDArray[np.int64]) -> SearchedFor:
        """What the given user rows searched for, in order; nothing for row -1."""
        starts, ends = (np.searchsorted(self.user, users, side) for side in ("left", "right"))
        offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
        take = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, ends - starts)
        return SearchedFor(offsets, self.query[take], self.time[take])

    def is_sound(self) -> bool:
        """Whether the arrays fit each other."""
        alike = len(self.user) == len(self.time) == len(self.query)
        known = (self.query >= 0) & (self.query < len(self.queries))
        return bool(alike and known.all() and (np.diff(self.user) >= 0).all())


@dataclass(frozen=True)
class SearchedFor(Ragged):
    """What n requests' shoppers searched for, concatenated; within a request oldest first.

    Attributes:
        query: int32 (m,), places in `Searches.queries`.
        time: int64 (m,), microseconds since the epoch, UTC.
    """

    query: NDArray[np.int32]
    time: NDArray[np.int64]

    @classmethod
    def empty(cls, count: int) -> Self:
        """`count` requests of shoppers who searched for nothing."""
        return cls(np.zeros(count + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))

    def before(self, as_of: NDArray[np.int64]) -> SearchedFor:
        """The searches strictly before each request's time (int64 (n,), microseconds)."""
        return self.where(self.time < as_of[self.request])
