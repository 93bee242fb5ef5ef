"""What the best possible ranking would know: chances over a period, from the true probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.simulation.behaviour import Behaviour
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.config import PolicyConfig, SimulationConfig
from recsys.simulation.policy import Page, item_weights
from recsys.simulation.shoppers import SEARCH_FACETS, columns
from recsys.simulation.visits import LISTS_PER_VISIT

_ALMOST_ALL: Final = 0.999
_NEWTON_STEPS: Final = 12


@dataclass(frozen=True)
class LastPurchases:
    """The last purchase of each (shopper, item) pair that has one; n pairs.

    Attributes:
        user: int64 (n,), user rows.
        item: int64 (n,), item rows.
        day: int64 (n,), day of the purchase, counted from the first day.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    day: NDArray[np.int64]


@dataclass(frozen=True)
class _Shelves:
    """The policy's mean weights over a period, 0 on days before an item's arrival.

    Attributes:
        weight: float64 (items,), sums to 1.
        arrival_weight: float64 (items,), the part on days when it stood among new arrivals.
    """

    weight: NDArray[np.float64]
    arrival_weight: NDArray[np.float64]


def exposure(
    config: SimulationConfig, behaviour: Behaviour, users: NDArray[np.int64], days: range
) -> NDArray[np.float32]:
    """Expected number of times shoppers look at items in a period: float32 (n, items).

    Approximate in three points: the policy's weights are means over the period; recent clicks count
    for nothing in them, as future ones are not known; and every position is looked at with the mean
    probability over positions.
    """
    shelves = _mean_weights(config.policy, behaviour.catalogue, days)
    shares = np.array(config.policy.page_shares)
    shares = shares / shares.sum()
    size = config.policy.list_size
    one_shelf = np.zeros(len(shelves.weight), np.int64)
    open_pages = (
        shares[Page.HOME] * inclusion_chance(shelves.weight[:, None], one_shelf, size)[:, 0]
    )
    arrivals = inclusion_chance(shelves.arrival_weight[:, None], one_shelf, size)[:, 0]
    open_pages += shares[Page.ARRIVALS] * arrivals
    chance = shares[Page.DEPARTMENT] * _department_chance(behaviour, users, shelves.weight, size)
    chance += shares[Page.SEARCH] * _search_chance(config.policy, behaviour, users, shelves.weight)
    looked_at = behaviour.examination(np.arange(size)).mean()
    lists = behaviour.shoppers.visits_per_day[users] * LISTS_PER_VISIT * len(days)
    return np.asarray((chance + open_pages) * (lists * looked_at)[:, None], np.float32)


def rebuy_probability(
    behaviour: Behaviour, purchases: LastPurchases, days: range
) -> NDArray[np.float32]:
    """Chance of at least one re-buy in a period, given no purchase between the last one and it.

    `rate * (F(end) - F(start)) / (1 - rate * F(start))` with F the distribution of the days until
    the item is used up, rounded up to whole days.

    Returns:
        float32 (n,): 0 for what lasts, and for purchases in or after the period.
    """
    rate = behaviour.config.rebuy_rate
    since = days.start - 1 - purchases.day
    start = behaviour.used_up(purchases.item, since.astype(np.float64))
    end = behaviour.used_up(purchases.item, (since + len(days)).astype(np.float64))
    chance = rate * (end - start) / np.maximum(1 - rate * start, np.finfo(float).tiny)
    return np.asarray(np.where(since >= 0, chance, 0), np.float32)


def inclusion_chance(
    weights: NDArray[np.float64], shelf: NDArray[np.int64], size: int
) -> NDArray[np.float64]:
    """Chance that a list drawn without replacement from an item's shelf holds the item.

    `1 - exp(-t * weight)` with t such that the chances of a shelf sum to the list's length (Rosén,
    "Asymptotic theory for successive sampling with varying probabilities without replacement",
    1972); exact where all weights of a shelf are equal.

    Args:
        weights: float64 (items, m), m alternative weightings; 0 for what can't be shown.
        shelf: int64 (items,), the shelf of each item, from 0.
        size: length of a list.

    Returns:
        float64 (items, m).
    """

    def on_shelves(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.zeros((int(shelf.max()) + 1, weights.shape[1]))
        np.add.at(sums, shelf, values)
        return sums

    stock = on_shelves((weights > 0).astype(np.float64))
    length = np.minimum(size, stock * _ALMOST_ALL)
    rate = _ratio(length, on_shelves(weights))
    for _ in range(_NEWTON_STEPS):  # from below: the sum is concave in the rate
        absent = np.exp(-rate[shelf] * weights)
        slope = on_shelves(weights * absent)
        rate += _ratio(length - on_shelves(1 - absent), slope)
    return np.asarray(1 - np.exp(-rate[shelf] * weights), np.float64)


def last_purchases(events: pl.LazyFrame, users: pl.Series, items: pl.Series) -> pl.DataFrame:
    """Rows `user`, `item` and `event_time` of the last purchase of each pair; unknown ids left out.

    Args:
        events: rows of the `events` contract.
        users: ids by user row.
        items: ids by item row.
    """
    user_rows = pl.LazyFrame({"user_id": users}).with_row_index("user")
    item_rows = pl.LazyFrame({"item_id": items}).with_row_index("item")
    return (
        events.filter(pl.col("event_type").cast(pl.String) == "purchase")
        .join(user_rows, on="user_id")
        .join(item_rows, on="item_id")
        .group_by("user", "item")
        .agg(pl.col("event_time").max())
        .sort("user", "item")
        .collect()
    )


def _mean_weights(config: PolicyConfig, catalogue: Catalogue, days: range) -> _Shelves:
    nothing = np.zeros(len(catalogue.item_ids))
    weights = np.stack([item_weights(config, catalogue, day, nothing) for day in days])
    age = np.array(days)[:, None] - catalogue.created_day
    new = (age >= 0) & (age <= config.arrival_days)
    return _Shelves(weights.mean(axis=0), (weights * new).mean(axis=0))


def _department_chance(
    behaviour: Behaviour, users: NDArray[np.int64], weight: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """float64 (n, items): chance that a department page that a shopper opens shows an item."""
    department = behaviour.catalogue.department
    shown = inclusion_chance(weight[:, None], department, size)[:, 0]
    return np.asarray(behaviour.shoppers.department_choice[users][:, department] * shown)


def _search_chance(
    config: PolicyConfig,
    behaviour: Behaviour,
    users: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """float64 (n, items): chance that a shopper's search, whatever it asks for, shows an item."""
    kind = behaviour.catalogue.kind
    shown = np.zeros((len(users), len(weight)))
    for facet in SEARCH_FACETS:
        has = np.zeros((len(weight), 1), np.float32)
        chosen = np.ones((len(users), 1))
        if facet is not None:
            has = behaviour.catalogue.features[:, columns(facet)]
            chosen = behaviour.shoppers.value_choice[facet][users]
        boosted = weight[:, None] * np.exp(config.search_boost * has)
        shown += chosen @ inclusion_chance(boosted, kind, config.list_size).T
    return np.asarray(behaviour.shoppers.type_choice[users][:, kind] * shown / len(SEARCH_FACETS))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
