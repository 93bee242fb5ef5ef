"""A small simulated shop with all its events, shared by the tests about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.simulation import SimulatedShop, SimulationConfig

SEED = 3
START = datetime(2026, 1, 5, tzinfo=UTC)
CONFIG = SimulationConfig(users=400, items=700, days=42)
CUT = 28
"""A day that divides the past from the future in tests about new items and periods."""


@dataclass(frozen=True)
class Simulated:
    """A shop and all its events."""

    shop: SimulatedShop
    items: pl.DataFrame
    events: pl.DataFrame

    def of_type(self, name: str) -> pl.DataFrame:
        return self.events.filter(pl.col("event_type") == name)

    def rows(self, events: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """User and item rows of events."""
        users = self.shop.user_rows(events["user_id"].to_list())
        return users, self.shop.item_rows(events["item_id"].to_list())

    @cached_property
    def impressions(self) -> pl.DataFrame:
        """Impressions with `day`, whether `clicked` and `bought`, and the true chances of both."""
        keys = ["attribution_token", "item_id"]
        shown = self.of_type("impression").with_columns(day=days_since_start("event_time"))
        for name, event_type in (("clicked", "click"), ("bought", "purchase")):
            followed = self.of_type(event_type).select(*keys, pl.lit(1).alias(name))
            shown = shown.join(followed, on=keys, how="left", maintain_order="left")
        chances = [self._chances(part) for part in shown.partition_by("day", maintain_order=True)]
        return pl.concat(chances).with_columns(pl.col("clicked", "bought").fill_null(0))

    def _chances(self, shown: pl.DataFrame) -> pl.DataFrame:
        """One day's impressions with true chances, position bias included."""
        users, items = self.rows(shown)
        looked = self.shop.examination_probability(shown["position"].to_numpy().astype(np.int64))
        distinct, place = np.unique(users, return_inverse=True)
        every_item = np.arange(len(self.shop.item_ids))
        day = float(shown["day"][0])
        click = self.shop.click_probability(distinct, every_item, day)[place, items]
        buy = self.shop.purchase_probability(distinct, every_item, day)[place, items]
        return shown.with_columns(
            looked=looked, click_chance=looked * click, buy_chance=looked * buy
        )


def days_since_start(column: str) -> pl.Expr:
    return (pl.col(column) - START).dt.total_days()


def at_day(day: int) -> datetime:
    return START + timedelta(days=day)


@cache
def simulated_shop() -> Simulated:
    """The shop of `CONFIG` and `SEED`, made once a test run."""
    shop = SimulatedShop(CONFIG, SEED)
    return Simulated(shop, shop.items(), pl.concat(list(shop.days())))
