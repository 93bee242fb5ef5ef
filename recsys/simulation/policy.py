"""The logging policy: what a page shows, and with which probability."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.simulation.catalogue import Catalogue
from recsys.simulation.config import PolicyConfig

_CELLS: Final = 4_000_000


class Page(IntEnum):
    """Kinds of pages, in the order of `PolicyConfig.page_shares`."""

    HOME = 0
    ARRIVALS = 1
    DEPARTMENT = 2
    SEARCH = 3


@dataclass(frozen=True)
class PageRequests:
    """n lists to fill.

    Attributes:
        page: int64 (n,), values of `Page`.
        argument: int64 (n,), the department of a department page, the product type of a search,
            else 0.
        wanted: int64 (n,), feature column of the attribute a query asks for, -1 for none.
    """

    page: NDArray[np.int64]
    argument: NDArray[np.int64]
    wanted: NDArray[np.int64]


@dataclass(frozen=True)
class ShownLists:
    """What n lists show.

    Attributes:
        item: int64 (n, list_size), item rows by position; -1 behind the end of a list.
        propensity: float64 (n, list_size), probability of showing this item at this position, given
            the page and the items above it; 0 behind the end.
    """

    item: NDArray[np.int64]
    propensity: NDArray[np.float64]


def item_weights(
    config: PolicyConfig,
    catalogue: Catalogue,
    day: int,
    recent_clicks: NDArray[np.float64],
) -> NDArray[np.float64]:
    """float64 (items,): the policy's weights on a day, summing to 1; 0 for what has not arrived.

    Args:
        config: the policy.
        catalogue: the items.
        day: the day; what arrives on it counts as there.
        recent_clicks: float64 (items,), clicks before the day, counted with exponential decay.
    """
    age = day - catalogue.created_day
    there = age >= 0
    freshness = np.exp(-np.maximum(age, 0) / config.freshness_days)
    popularity = config.popularity_weight * np.log1p(recent_clicks)
    weights = np.where(there, np.exp(popularity + config.freshness_weight * freshness), 0)
    even = there / max(there.sum(), 1)
    share = weights / max(weights.sum(), np.finfo(float).tiny)
    return np.asarray((1 - config.exploration) * share + config.exploration * even, np.float64)


def shelf_rows(
    config: PolicyConfig, catalogue: Catalogue, day: int, page: int, argument: int
) -> NDArray[np.int64]:
    """Ascending item rows that a page can show on a day; may be none."""
    age = day - catalogue.created_day
    holds = age >= 0
    if page == Page.ARRIVALS:
        holds &= age <= config.arrival_days
    elif page == Page.DEPARTMENT:
        holds &= catalogue.department == argument
    elif page == Page.SEARCH:
        holds &= catalogue.kind == argument
    return np.flatnonzero(holds)


def fill_lists(
    config: PolicyConfig,
    catalogue: Catalogue,
    day: int,
    weights: NDArray[np.float64],
    requests: PageRequests,
    rng: np.random.Generator,
) -> ShownLists:
    """Draw the lists of a day by `item_weights`; a list whose shelf is empty stays empty."""
    count = len(requests.page)
    item = np.full((count, config.list_size), -1)
    propensity = np.zeros((count, config.list_size))
    pages = np.stack([requests.page, requests.argument], axis=1)
    distinct, group = np.unique(pages, axis=0, return_inverse=True)
    for number, (page, argument) in enumerate(distinct.tolist()):
        rows = shelf_rows(config, catalogue, day, page, argument)
        lists = np.flatnonzero(group == number) if len(rows) else np.zeros(0, np.int64)
        for part in np.array_split(lists, 1 + len(lists) * len(rows) // _CELLS):
            wanted = has_wanted(catalogue, rows, requests.wanted[part])
            boosted = weights[rows] * np.exp(config.search_boost * wanted)
            chosen, probability = draw_lists(boosted, config.list_size, rng)
            item[part, : chosen.shape[1]] = rows[chosen]
            propensity[part, : chosen.shape[1]] = probability
    return ShownLists(item, propensity)


def has_wanted(
    catalogue: Catalogue, rows: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.float32]:
    """float32 (n, m): 1 where the item of a column has the feature column a row wants, else 0."""
    found = catalogue.features[rows].T[wanted]
    return np.where(wanted[:, None] >= 0, found, np.float32(0))


def draw_lists(
    weights: NDArray[np.float64], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw from each row without replacement, one position after the other (Plackett and Luce).

    Args:
        weights: float64 (n, m), positive, need not sum to 1; columns are what can be drawn.
        size: how many to draw; all m where there are fewer.
        rng: draws one exponential per weight: ordered arrival times of m Poisson processes have
            exactly this distribution.

    Returns:
        Columns by position, int64 (n, min(size, m)), and their probabilities given the positions
        before: weight over the sum of weights not drawn yet.
    """
    arrival = rng.standard_exponential(weights.shape) / weights
    size = min(size, weights.shape[1])
    first = np.argpartition(arrival, size - 1, axis=1)[:, :size]
    order = np.argsort(np.take_along_axis(arrival, first, axis=1), axis=1)
    chosen = np.take_along_axis(first, order, axis=1)
    drawn = np.take_along_axis(weights, chosen, axis=1)
    never = np.maximum(weights.sum(axis=1) - drawn.sum(axis=1), 0) * (weights.shape[1] > size)
    left = never[:, None] + np.cumsum(drawn[:, ::-1], axis=1)[:, ::-1]
    return chosen, drawn / left
