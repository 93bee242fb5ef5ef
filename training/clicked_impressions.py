"""Impressions of a log with whether they were clicked."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from recsys.interactions import first_clicks

_CLICKS = ("click", "view")


def clicked_impressions(events: pl.LazyFrame, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Every impression once, in order of time, with the column `clicked`.

    A click or view belongs to an impression by the rule of the data contract.

    Args:
        events: rows of the `events` contract.
        columns: further columns to keep, which must be there.

    Returns:
        `event_id`, `user_id`, `event_time`, `attribution_token`, `item`, `columns` and `clicked`.
    """
    present = events.collect_schema().names()
    optional = [
        pl.col(name) if name in present else pl.lit(None, pl.String).alias(name)
        for name in ("attribution_token", "session_id")
    ]
    kind = pl.col("event_type").cast(pl.String)
    rows = (
        events.filter(kind.is_in(["impression", *_CLICKS]))
        .select("event_id", "event_time", kind, *optional, *columns, user="user_id", item="item_id")
        .sort("event_time", "event_id")
        .unique("event_id", keep="first", maintain_order=True)
        .collect()
    )
    is_shown = pl.col("event_type") == "impression"
    shown = rows.filter(is_shown).with_row_index("impression")
    clicks = first_clicks(shown, rows.filter(~is_shown))
    return shown.select(
        "event_id",
        pl.col("user").alias("user_id"),
        "event_time",
        "attribution_token",
        "item",
        *columns,
        clicked=pl.col("impression").is_in(clicks["impression"].implode()),
    )
