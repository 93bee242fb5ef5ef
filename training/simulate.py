"""Simulate a shop and write its dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl
from rich.progress import Progress

from recsys.errors import EmptyTableError
from recsys.simulation import ORACLE_FILE, SimulatedShop, SimulationConfig
from recsys.tables import EVENT_TYPES, write_dataset

_DAYS_A_PART: Final = 7


@dataclass(frozen=True)
class SimulationSummary:
    """What was written.

    Attributes:
        dataset: the folder.
        seed: the seed.
        users: shoppers, those without an event included.
        items: items, arrivals included.
        new_items_per_week: mean over the weeks simulated.
        events: events by type; 0 for types that did not happen.
        click_rate: clicks per impression; 0 without impressions.
        conversion: purchases from lists per click; 0 without clicks.
        repurchase_share: share of the purchases whose shopper had bought the item before.
        first_event: time of the first event.
        last_event: time of the last event.
    """

    dataset: Path
    seed: int
    users: int
    items: int
    new_items_per_week: float
    events: dict[str, int]
    click_rate: float
    conversion: float
    repurchase_share: float
    first_event: datetime
    last_event: datetime


@dataclass
class _Tally:
    """Counts taken while the events pass by."""

    events: Counter[str] = field(default_factory=Counter)
    from_lists: int = 0
    bought: set[tuple[str, str]] = field(default_factory=set)
    moments: list[datetime] = field(default_factory=list)

    def add(self, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        self.events.update(dict(frame["event_type"].value_counts().iter_rows()))
        purchases = frame.filter(pl.col("event_type") == "purchase")
        self.from_lists += purchases["attribution_token"].count()
        self.bought.update(purchases.select("user_id", "item_id").iter_rows())
        self.moments += [frame["event_time"][0], frame["event_time"][-1]]


def simulate(
    out: Path, config: SimulationConfig, seed: int, progress: Progress, *, overwrite: bool = False
) -> SimulationSummary:
    """Simulate a shop and write items, events, users and the oracle's description to a folder.

    The same configuration and seed write the same bytes.

    Raises:
        DataError: `out` holds something already and `overwrite` is false, or it is no dataset.
        EmptyTableError: so few shoppers and days that nothing happened; nothing is written.
    """
    shop = SimulatedShop(config, seed)
    items, users, tally = shop.items(), shop.users(), _Tally()
    parts = _parts(shop, tally, progress)
    documents = {ORACLE_FILE: shop.document()}
    write_dataset(out, items, parts, users, overwrite=overwrite, documents=documents)
    start = pl.lit(config.start).cast(pl.Datetime("us", "UTC"))
    arrivals = items.filter(pl.col("created_at") >= start).height
    counts, purchases = tally.events, max(tally.events["purchase"], 1)
    return SimulationSummary(
        dataset=out,
        seed=seed,
        users=config.users,
        items=items.height,
        new_items_per_week=arrivals / -(-config.days // 7),
        events={name: counts[name] for name in EVENT_TYPES},
        click_rate=counts["click"] / max(counts["impression"], 1),
        conversion=tally.from_lists / max(counts["click"], 1),
        repurchase_share=(counts["purchase"] - len(tally.bought)) / purchases,
        first_event=tally.moments[0],
        last_event=tally.moments[-1],
    )


def _parts(shop: SimulatedShop, tally: _Tally, progress: Progress) -> Iterator[pl.DataFrame]:
    """The events a week at a time: only one week is in memory."""
    task = progress.add_task("Simulating days", total=shop.config.days)
    week: list[pl.DataFrame] = []
    for day, frame in enumerate(shop.days(), start=1):
        tally.add(frame)
        week.append(frame)
        progress.advance(task)
        if day % _DAYS_A_PART == 0 or day == shop.config.days:
            yield pl.concat(week)
            week.clear()
    if not tally.events:
        raise EmptyTableError(
            f"no shopper came: {shop.config.users} shoppers in {shop.config.days} days; "
            "simulate more of either"
        )
