"""Candidate sources behind one protocol, and the merge that keeps which source gave what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.interactions import (
    DAY_US,
    HOUR_US,
    Candidates,
    EventKind,
    InteractionLog,
    ItemLists,
    kept_by_hour,
    place_in_run,
)
from recsys.retrieval.co_occurrence import HALF_LIFE_DAYS, CoOccurrence
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.item_regression import NEXT_HALF_LIFE_DAYS
from recsys.retrieval.neighbours import ItemNeighbours
from recsys.retrieval.queries import (
    RetrievalQueries,
    latest_events,
    looked_at_and_recent,
    looked_at_or_recent,
)

BEGINNING: Final = -(2**63)
HOURS_KEPT: Final = 32


class CandidateSource(Protocol):
    """Brings candidates for n requests; the same queries always bring the same lists."""

    @property
    def name(self) -> str:
        """Short name, shown to callers as the reason an item was considered."""

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """At most `k` items for each request, best first, no item twice within a request."""


@dataclass(frozen=True)
class TextNeighbours:
    """Items near by text to the query; else to what the shopper looks at; else to recent items.

    An item's closeness to several titles is its closeness to the nearest of them.

    Attributes:
        index: searched with the query vectors.
        neighbours: the index's own table of each item's nearest items.
        recent: most recent distinct items of a history that are looked up.
    """

    index: VectorIndex
    neighbours: ItemNeighbours
    recent: int
    name: str = "text"

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """See `CandidateSource`; nothing for a request with no query, context or history."""
        seeds = looked_at_or_recent(queries, self.recent)
        if k < 1 or queries.query_vectors is None or not queries.has_query.any():
            return self.neighbours.retrieve(seeds, k, "max")
        asked = np.flatnonzero(queries.has_query)
        rows, _ = self.index.search(queries.query_vectors[asked], k)
        request = np.repeat(asked, (rows >= 0).sum(axis=1))
        unasked = ~queries.has_query[seeds.lists.request]
        rest = self.neighbours.retrieve(seeds.where(unasked), k, "max")
        request = np.concatenate([request, rest.request])
        item = np.concatenate([rows[rows >= 0], rest.item])
        order = np.argsort(request, kind="stable")
        return ItemLists.grouped(request[order], item[order], queries.count)


@dataclass(frozen=True)
class CoOccurrenceSource:
    """Items that go with the shopper's recent items and with what they look at (BM25 sums)."""

    tables: CoOccurrence
    recent: int
    name: str = "co_occurrence"

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """See `CandidateSource`; nothing for a request with no context and no history."""
        seeds = looked_at_and_recent(queries, self.recent, HALF_LIFE_DAYS)
        return self.tables.bm25.retrieve(seeds, k)


@dataclass(frozen=True)
class NextItems:
    """Items that shoppers take up after the shopper's items and what they look at."""

    tables: CoOccurrence
    recent: int
    name: str = "next_items"

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """See `CandidateSource`; nothing for a request with no context and no history."""
        seeds = looked_at_and_recent(queries, self.recent, NEXT_HALF_LIFE_DAYS)
        return self.tables.next_items.retrieve(seeds, k)


@dataclass(frozen=True)
class Popular:
    """The items most bought lately by anybody; what interested most, where nothing is ever bought.

    Counts end at the last full hour before the request's time: a list can be kept for an hour.
    Items alike in the window, or not bought in it, stand by their count ever; then by row.

    Attributes:
        log: everybody's events.
        days: length of the window.
    """

    log: InteractionLog
    days: float
    name: str = "popular"

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """See `CandidateSource`; shorter than `k` only while fewer items were ever bought."""
        hours, place = np.unique(queries.as_of - queries.as_of % HOUR_US, return_inverse=True)
        tops = [self._kept(int(hour))[: max(k, 0)] for hour in hours]
        request = np.repeat(np.arange(queries.count), [len(tops[p]) for p in place])
        item = np.concatenate([np.zeros(0, np.int32), *(tops[p] for p in place)])
        return ItemLists.grouped(request, item, queries.count)

    def scores(self, time: int) -> NDArray[np.float64]:
        """float64 (items,): the count within the window, and below 1 for the count ever.

        Args:
            time: microseconds since the epoch, UTC; counts end at its full hour.
        """
        return self._scored(time - time % HOUR_US)

    @cached_property
    def _scored(self) -> Callable[[int], NDArray[np.float64]]:
        return kept_by_hour(self._scores, HOURS_KEPT)

    def _scores(self, hour: int) -> NDArray[np.float64]:
        lately, ever = self._lately_and_ever(hour)
        return np.asarray(lately + ever / (1.0 + ever.max(initial=0)), np.float64)

    @cached_property
    def _kept(self) -> Callable[[int], NDArray[np.int32]]:
        return kept_by_hour(self._at, HOURS_KEPT)

    @cached_property
    def _wanted(self) -> NDArray[np.bool_]:
        bought = self.log.kind == EventKind.PURCHASE
        return bought if bought.any() else np.not_equal(self.log.kind, EventKind.HIDE)

    def _at(self, hour: int) -> NDArray[np.int32]:
        lately, ever = self._lately_and_ever(hour)
        order = np.lexsort((-ever, -lately))
        return order[ever[order] > 0].astype(np.int32)

    def _lately_and_ever(self, hour: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        start = hour - int(self.days * DAY_US)
        return self._counts(start, hour), self._counts(BEGINNING, hour)

    def _counts(self, start: int, end: int) -> NDArray[np.int64]:
        events = self.log.between(start, end)
        item = self.log.item[events[self._wanted[events]]]
        return np.bincount(item, minlength=len(self.log.item_ids))


@dataclass(frozen=True)
class OwnItems:
    """What the shopper bought, most recent first; then what they only took an interest in."""

    name: str = "own_items"

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """See `CandidateSource`; nothing for a shopper without history."""
        history = queries.visible
        key = history.request * (int(history.item.max(initial=0)) + 1) + history.item
        bought = history.kind == EventKind.PURCHASE
        history = history.where(bought | ~np.isin(key, key[bought]))
        last = latest_events(history)
        request, kind = history.request[last], history.kind[last]
        last = last[np.lexsort((-last, kind != EventKind.PURCHASE, request))]
        last = last[place_in_run(request) < k]
        return ItemLists.grouped(history.request[last], history.item[last], queries.count)


def merge(retrieved: Mapping[str, ItemLists]) -> Candidates:
    """Unite the lists of several sources, keeping which source gave an item and where it stood.

    Args:
        retrieved: by source name, at least one; all of the same n requests.

    Returns:
        Candidates, ascending by item within a request; the same lists always give the same result.
    """
    lists = list(retrieved.values())
    span = max((int(found.item.max(initial=0)) for found in lists), default=0) + 1
    keys = [found.request * span + found.item for found in lists]
    distinct = np.unique(np.concatenate(keys))
    ranks = np.full((len(distinct), len(lists)), -1, np.int32)
    for column, (found, key) in enumerate(zip(lists, keys, strict=True)):
        ranks[np.searchsorted(distinct, key), column] = place_in_run(found.request)
    merged = ItemLists.grouped(distinct // span, distinct % span, lists[0].count)
    return Candidates(merged.offsets, merged.item, tuple(retrieved), ranks)
