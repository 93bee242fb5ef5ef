"""What the shoppers of an experiment did, day by day, and what they had done before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.interactions import DAY_US, first_clicks
from recsys.tables import EVENT_TYPES
from training.experiment.exposure import Exposure, Labels, numbered
from training.experiment.metrics import CLICKED, COLUMNS, REVENUE, SHOWN, Totals


@dataclass(frozen=True)
class Activity:
    """Totals of n shoppers.

    Attributes:
        shoppers: n.
        days: from each shopper's exposure on: `user`, `day` (of the experiment, from 0), `tenure`
            (days since the shopper's exposure, from 0) and `COLUMNS`; rows without any event are
            absent.
        before: `user` and `COLUMNS`, totals of the time before the experiment; `shown` and
            `clicked` are of all impressions then.
        entered: int64 (n,), day of the experiment on which each shopper was exposed.
        last_day: the last day of the experiment with an event.
        last_event: the last event from exposure on.
        unpriced: purchases from exposure on that have no price and count as no revenue.
    """

    shoppers: int
    days: pl.DataFrame
    before: pl.DataFrame
    entered: NDArray[np.int64]
    last_day: int
    last_event: datetime
    unpriced: int

    @cached_property
    def totals(self) -> Totals:
        """From exposure on."""
        return self.totals_of(self.days)

    @cached_property
    def earlier(self) -> Totals | None:
        """Before the experiment; None where nobody did anything then."""
        return None if self.before.is_empty() else self.totals_of(self.before)

    def totals_of(self, frame: pl.DataFrame) -> Totals:
        """Totals of some rows of `days` or `before`."""
        sums = frame.group_by("user").agg(pl.col(*COLUMNS).sum())
        rows = sums["user"].to_numpy()
        found = {}
        for name in COLUMNS:
            column = np.zeros(self.shoppers)
            column[rows] = sums[name].to_numpy()
            found[name] = column
        return found


def read_activity(
    events: pl.LazyFrame, labels: Labels, found: Exposure, pre_days: int, end: datetime | None
) -> Activity:
    """Read what the shoppers of an experiment did.

    The time before starts `pre_days` before the first exposure of anybody and ends with it, so that
    no one's covariate can know anything of an arm. A purchase without a price is no revenue.

    Args:
        events: rows of the `events` contract.
        labels: the experiment's impressions.
        found: its shoppers.
        pre_days: days of the time before; 0 for none.
        end: events at or after it are left out.
    """
    rows = _marked(_events_of(events, found, pre_days, end), labels)
    midnight = found.start.replace(hour=0, minute=0, second=0, microsecond=0)
    since = pl.col("event_time")
    counted = rows.filter(since >= pl.col("exposed")).with_columns(
        day=(since - midnight).dt.total_microseconds() // DAY_US,
        tenure=(since - pl.col("exposed")).dt.total_microseconds() // DAY_US,
        shown=pl.col("impression") & pl.col("labelled"),
        clicked=pl.col("clicked") & pl.col("labelled"),
    )
    before = rows.filter(since < found.start).with_columns(shown=pl.col("impression"))
    entered = (found.shoppers["exposed"] - midnight).dt.total_microseconds() // DAY_US
    last_event = counted["event_time"].max()
    if not isinstance(last_event, datetime):
        last_event = found.start
    unpriced = counted.filter(pl.col("purchase") & ~pl.col("priced"))
    return Activity(
        shoppers=len(found.shoppers),
        days=_summed(counted, ["user", "day", "tenure"]),
        before=_summed(before, ["user"]),
        entered=entered.to_numpy().astype(np.int64),
        last_day=(last_event - midnight).days,
        last_event=last_event,
        unpriced=len(unpriced),
    )


def _summed(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    columns = [pl.col(name).cast(pl.Float64).sum() for name in COLUMNS]
    return rows.group_by(keys).agg(columns).sort(keys)


def _events_of(
    events: pl.LazyFrame, found: Exposure, pre_days: int, end: datetime | None
) -> pl.DataFrame:
    """The shoppers' events once each, in order of time."""
    present = events.collect_schema().names()
    first = found.start - timedelta(days=pre_days)

    def optional(name: str, dtype: pl.DataType) -> pl.Expr:
        return pl.col(name) if name in present else pl.lit(None, dtype).alias(name)

    def key(name: str) -> pl.Expr:
        return numbered(name) if name in present else pl.lit(None, pl.UInt64).alias(name)

    rows = events.filter(pl.col("event_time") >= first)
    if end is not None:
        rows = rows.filter(pl.col("event_time") < end)
    frame: pl.DataFrame = (
        rows.select(
            "user_id",
            pl.col("event_type").cast(pl.Enum(EVENT_TYPES)),
            "event_time",
            key("attribution_token"),
            key("session_id"),
            optional("price", pl.Float64()),
            optional("quantity", pl.Int32()),
            event=numbered("event_id"),
            item=numbered("item_id"),
        )
        .join(found.shoppers.lazy().select("user_id", "user", "exposed"), on="user_id")
        .drop("user_id")
        .sort("event_time", "event")
        .unique("event", keep="first", maintain_order=True)
        .collect()
    )
    return frame


def _marked(rows: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """A boolean column for each event type, `labelled`, `clicked`, `priced`, and `revenue`."""
    kind = pl.col("event_type")
    shown = rows.filter(kind == "impression").with_row_index("impression")
    clicks = first_clicks(shown, rows.filter(kind.is_in(["click", "view"])))
    clicked = shown.join(clicks, on="impression", how="semi")["event"]
    bought = kind == "purchase"
    price = pl.col("price").fill_null(0.0) * pl.col("quantity").fill_null(1)
    return rows.with_columns(
        *((kind == name).alias(name) for name in EVENT_TYPES),
        pl.when(bought).then(price).otherwise(0.0).alias(REVENUE),
        pl.col("event").is_in(clicked.implode()).alias(CLICKED),
        pl.lit(value=False).alias(SHOWN),
        labelled=pl.col("event").is_in(labels.frame["event"].implode()),
        priced=pl.col("price").is_not_null(),
    )
