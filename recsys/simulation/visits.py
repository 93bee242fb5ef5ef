"""Who comes on a day, when, and which pages they open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.simulation.catalogue import DEPARTMENT_OF_TYPE, FACET_STARTS, TYPE_COUNT, Catalogue
from recsys.simulation.config import SimulationConfig
from recsys.simulation.policy import Page, PageRequests
from recsys.simulation.product_types import DEPARTMENTS
from recsys.simulation.shoppers import SEARCH_FACETS, Shoppers
from recsys.simulation.texts import query_text

SECOND: Final = 1_000_000
_FIRST_VISIT_HOUR, _LAST_VISIT_HOUR = 7.0, 22.5
_MOST_FURTHER_LISTS, _FURTHER_LIST_CHANCE = 2, 0.3
LISTS_PER_VISIT: Final = 1 + _MOST_FURTHER_LISTS * _FURTHER_LIST_CHANCE
"""Mean number of lists that a visit opens."""

_LIST_GAP: Final = 150 * SECOND


@dataclass(frozen=True)
class Visits:
    """The visits of a day and the n lists they open.

    Attributes:
        user: int64 (visits,), user rows.
        visit: int64 (n,), the visit of each list; ascending.
        time: int64 (n,), when a list is shown, microseconds since midnight.
        requests: the pages.
        queries: the query of each list, None where the page is no search.
    """

    user: NDArray[np.int64]
    visit: NDArray[np.int64]
    time: NDArray[np.int64]
    requests: PageRequests
    queries: list[str | None]

    @property
    def list_user(self) -> NDArray[np.int64]:
        """int64 (n,): the user row of each list."""
        return self.user[self.visit]


def draw_visits(
    config: SimulationConfig,
    shoppers: Shoppers,
    catalogue: Catalogue,
    day: int,
    rng: np.random.Generator,
) -> Visits:
    """Draw the visits of a day: Poisson per shopper, one to three lists each.

    A page whose shelf is empty on that day becomes the home page.
    """
    rate = np.where(shoppers.joined_day <= day, shoppers.visits_per_day, 0)
    user = np.repeat(np.arange(len(rate)), rng.poisson(rate))
    lists = 1 + rng.binomial(_MOST_FURTHER_LISTS, _FURTHER_LIST_CHANCE, len(user))
    visit = np.repeat(np.arange(len(user)), lists)
    order = np.arange(len(visit)) - np.repeat(np.cumsum(lists) - lists, lists)
    start = _draw_hours(len(user), rng) * 3600 * SECOND
    time = start.astype(np.int64)[visit] + order * _LIST_GAP
    shares = np.array(config.policy.page_shares)
    page = rng.choice(len(Page), size=len(visit), p=shares / shares.sum())
    requests, facets = _draw_requests(shoppers, user[visit], page, rng)
    stocked = _is_stocked(config.policy.arrival_days, catalogue, day, requests)
    requests = PageRequests(
        np.where(stocked, requests.page, Page.HOME),
        np.where(stocked, requests.argument, 0),
        np.where(stocked, requests.wanted, -1),
    )
    return Visits(user, visit, time, requests, _queries(requests, facets, rng))


def _draw_hours(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return _FIRST_VISIT_HOUR + (_LAST_VISIT_HOUR - _FIRST_VISIT_HOUR) * rng.beta(2.0, 1.5, count)


def _draw_requests(
    shoppers: Shoppers, user: NDArray[np.int64], page: NDArray[np.int64], rng: np.random.Generator
) -> tuple[PageRequests, NDArray[np.int64]]:
    """The pages of lists and, for searches, the place in `SEARCH_FACETS` of what they name."""
    kind = _draw_columns(shoppers.type_choice[user], rng)
    department = DEPARTMENT_OF_TYPE[kind]
    argument = np.select([page == Page.DEPARTMENT, page == Page.SEARCH], [department, kind], 0)
    facet = np.where(page == Page.SEARCH, rng.integers(len(SEARCH_FACETS), size=len(page)), 0)
    wanted = np.full(len(page), -1)
    for place, name in enumerate(SEARCH_FACETS):
        if name is not None:
            lists = np.flatnonzero(facet == place)
            values = _draw_columns(shoppers.value_choice[name][user[lists]], rng)
            wanted[lists] = FACET_STARTS[name] + values
    return PageRequests(page, argument, wanted), facet


def _draw_columns(chances: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 (n,): a column for each row of (n, m) chances that sum to 1 over a row."""
    below = np.cumsum(chances, axis=1) < rng.random((len(chances), 1))
    return np.asarray(np.minimum(below.sum(axis=1), chances.shape[1] - 1), np.int64)


def _is_stocked(
    arrival_days: int, catalogue: Catalogue, day: int, requests: PageRequests
) -> NDArray[np.bool_]:
    """Whether the shelf of each page holds an item on the day: bool (n,)."""
    age = day - catalogue.created_day
    types = np.bincount(catalogue.kind[age >= 0], minlength=TYPE_COUNT)
    departments = np.bincount(catalogue.department[age >= 0], minlength=len(DEPARTMENTS))
    arrivals = bool(np.any((age >= 0) & (age <= arrival_days)))
    page, argument = requests.page, requests.argument
    holds = np.ones(len(page), bool)
    holds[page == Page.ARRIVALS] = arrivals
    holds[page == Page.DEPARTMENT] = departments[argument[page == Page.DEPARTMENT]] > 0
    holds[page == Page.SEARCH] = types[argument[page == Page.SEARCH]] > 0
    return holds


def _queries(
    requests: PageRequests, facets: NDArray[np.int64], rng: np.random.Generator
) -> list[str | None]:
    queries: list[str | None] = [None] * len(facets)
    for row in np.flatnonzero(requests.page == Page.SEARCH).tolist():
        facet = SEARCH_FACETS[facets[row]]
        value = requests.wanted[row] - FACET_STARTS[facet] if facet else 0
        queries[row] = query_text(int(requests.argument[row]), facet, int(value), rng)
    return queries
