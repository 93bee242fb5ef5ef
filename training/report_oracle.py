"""The ceiling: what a ranking could reach that knew a simulated shop's true probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.simulation import SimulatedShop
from recsys.tables import Dataset

Oracle = Callable[[Sequence[str], Sequence[str]], NDArray[np.floating]]
"""User ids (n,) and item ids (m,) to true scores (n, m); higher is better."""


def oracle_of(dataset: Path, start: datetime, end: datetime | None) -> Oracle | None:
    """Expected purchases from `start` to `end` in the shop that made a dataset.

    Args:
        dataset: a dataset folder; purchases in it before `start` give the chances of re-buys.
        start: start of the period.
        end: its end, None for the end of the simulated days.

    Returns:
        None when the dataset is not a simulated one.

    Raises:
        FileFormatError: the dataset's description of the shop can't be read.
    """
    shop = SimulatedShop.from_dataset(dataset)
    if shop is None:
        return None
    before = Dataset(dataset).scan_events().filter(pl.col("event_time") < start)
    purchases = shop.last_purchases(before)
    first, last = shop.day_of(start), shop.config.days if end is None else shop.day_of(end)

    def scores(user_ids: Sequence[str], item_ids: Sequence[str]) -> NDArray[np.floating]:
        found = shop.oracle_scores(shop.user_rows(user_ids), first, last, purchases)
        return found[:, shop.item_rows(item_ids)]

    return scores
