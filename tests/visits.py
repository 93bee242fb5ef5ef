"""Two shoppers' visits to a shop of eight items, written down event by event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from recsys.interactions import InteractionLog

BASE = datetime(2031, 1, 1, tzinfo=UTC)
BASE_US = int(BASE.timestamp()) * 1_000_000
ITEMS = tuple("abcdefgh")
Row = tuple[int, str, str, str, str, str | None]
"""Minute, user, session, event type, item, query."""

VISITS: tuple[Row, ...] = (
    (0, "u1", "s1", "click", "a", None),
    (99, "u1", "s2", "impression", "b", "Red Lamp"),
    (99, "u1", "s2", "impression", "c", "Red Lamp"),
    (99, "u1", "s2", "impression", "d", "Red Lamp"),
    (99, "u1", "s2", "impression", "f", "Red Lamp"),
    (100, "u1", "s2", "click", "b", "Red Lamp"),
    (101, "u1", "s2", "purchase", "b", None),
    (102, "u1", "s2", "click", "c", "blue lamp"),
    (200, "u1", "s3", "click", "b", None),
    (201, "u1", "s3", "hide", "d", None),
    (202, "u1", "s3", "click", "e", None),
    (203, "u1", "s3", "impression", "g", "cup"),
    (204, "u1", "s3", "click", "g", None),
    (300, "u1", "s4", "purchase", "e", None),
    (301, "u1", "s4", "click", "d", None),
    (90, "u2", "s2", "impression", "h", "other shopper"),
    (95, "u2", "s2", "purchase", "h", None),
)


def minutes(count: int) -> int:
    return BASE_US + count * 60_000_000


def events_of(rows: Sequence[Row]) -> pl.DataFrame:
    columns = ["minute", "user_id", "session_id", "event_type", "item_id", "query"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_row_index("event_id")
    return frame.select(
        pl.col("event_id").cast(pl.String),
        *columns[1:],
        event_time=pl.lit(BASE) + pl.duration(minutes=pl.col("minute")),
    )


def log_of(rows: Sequence[Row]) -> InteractionLog:
    return InteractionLog.build(pl.Series(ITEMS), events_of(rows).lazy())
