"""What candidate sources are asked: n shoppers with their history, context, query and time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.interactions import (
    DAY_US,
    EventKind,
    Histories,
    ItemLists,
    SearchedFor,
    ShownItems,
    place_in_run,
)

Matrix = sparse.csr_matrix[np.float32]


class RecentItems(NamedTuple):
    """Items of shoppers by request, most recent first; arrays of one length.

    `place` counts from 0 within a request.
    """

    request: NDArray[np.int64]
    item: NDArray[np.int32]
    age_days: NDArray[np.float64]
    place: NDArray[np.int64]


@dataclass(frozen=True)
class RetrievalQueries:
    """n requests for candidates.

    Attributes:
        histories: the shoppers' events; those at or after `as_of` are ignored.
        context: what each shopper looks at or has in the basket.
        as_of: int64 (n,), microseconds since the epoch, UTC.
        query_vectors: float32 (n, d) unit rows, a row of NaN where the request has no query; None
            when no request has one.
        shown: what the shoppers were shown; None where nothing is known of it.
        searched: what they searched for before; None where nothing is known of it.
        tastes: float32 (n, t), see `Tastes.weights`; None where each use computes them.
        similar_bought: float32 (n, items), see `SimilarShoppers.bought_by_similar`; None as above.
    """

    histories: Histories
    context: ItemLists
    as_of: NDArray[np.int64]
    query_vectors: NDArray[np.float32] | None = None
    shown: ShownItems | None = None
    searched: SearchedFor | None = None
    tastes: NDArray[np.float32] | None = None
    similar_bought: Matrix | None = None

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.as_of)

    def rows(self, first: int, last: int) -> RetrievalQueries:
        """Requests `first` to `last` (exclusive)."""
        if (first, last) == (0, self.count):
            return self
        shown, searched = self.shown, self.searched
        vectors, tastes, bought = self.query_vectors, self.tastes, self.similar_bought
        return RetrievalQueries(
            self.histories.rows(first, last),
            self.context.rows(first, last),
            self.as_of[first:last],
            None if vectors is None else vectors[first:last],
            None if shown is None else shown.rows(first, last),
            None if searched is None else searched.rows(first, last),
            None if tastes is None else tastes[first:last],
            None if bought is None else bought[first:last],
        )

    @cached_property
    def visible(self) -> Histories:
        """The events before each request's time that show interest: all kinds but `HIDE`."""
        past = self.histories.before(self.as_of)
        return past.where(past.kind != EventKind.HIDE)

    @cached_property
    def latest(self) -> NDArray[np.int64]:
        """The `latest_events` of `visible`."""
        return latest_events(self.visible)

    @cached_property
    def recent(self) -> RecentItems:
        """The distinct items of `visible`, with the time of the last event of each."""
        history, last = self.visible, self.latest
        request = history.request[last]
        age_days = (self.as_of[request] - history.time[last]) / DAY_US
        return RecentItems(request, history.item[last], age_days, place_in_run(request))

    @cached_property
    def has_query(self) -> NDArray[np.bool_]:
        """Bool (n,): the request has a query vector."""
        if self.query_vectors is None:
            return np.zeros(self.count, np.bool_)
        return np.logical_not(np.isnan(self.query_vectors).all(axis=1), dtype=np.bool_)


@dataclass(frozen=True)
class Seeds:
    """Items of n requests that neighbours are looked up for, with the weight of each.

    Attributes:
        lists: the items, no item twice within a request.
        weight: float64 (m,), above 0.
    """

    lists: ItemLists
    weight: NDArray[np.float64]

    @classmethod
    def equal(cls, lists: ItemLists) -> Self:
        """Every item with weight 1."""
        return cls(lists, np.ones(len(lists.item)))

    def where(self, keep: NDArray[np.bool_]) -> Seeds:
        """The entries for which `keep` (bool (m,)) is true."""
        lists = ItemLists.grouped(self.lists.request[keep], self.lists.item[keep], self.lists.count)
        return Seeds(lists, self.weight[keep])


def latest_events(histories: Histories) -> NDArray[np.int64]:
    """Positions of the last event of each (request, item), by request, most recent first."""
    request, item = histories.request, histories.item
    span = int(item.max(initial=0)) + 1
    _, from_end = np.unique((request * span + item)[::-1], return_index=True)
    last: NDArray[np.int64] = len(item) - 1 - from_end
    return last[np.lexsort((-last, request[last]))]


def recent_items(queries: RetrievalQueries, limit: int, half_life_days: float | None) -> Seeds:
    """Each shopper's `limit` most recent distinct items, most recent first.

    The weight is 0.5 ** (days since the item's last event / half_life_days); 1 without half-life.
    """
    recent = queries.recent
    kept = recent.place < limit
    lists = ItemLists.grouped(recent.request[kept], recent.item[kept], queries.count)
    if half_life_days is None:
        return Seeds.equal(lists)
    return Seeds(lists, np.exp2(-recent.age_days[kept] / half_life_days))


def looked_at_and_recent(
    queries: RetrievalQueries, limit: int, half_life_days: float | None
) -> Seeds:
    """The context with weight 1, and the `recent_items` that are not in it."""
    recent = recent_items(queries, limit, half_life_days)
    request = np.concatenate([queries.context.request, recent.lists.request])
    item = np.concatenate([queries.context.item, recent.lists.item])
    weight = np.concatenate([np.ones(len(queries.context.item)), recent.weight])
    _, first = np.unique(request * (int(item.max(initial=0)) + 1) + item, return_index=True)
    first = np.sort(first)
    order = first[np.argsort(request[first], kind="stable")]
    return Seeds(ItemLists.grouped(request[order], item[order], queries.count), weight[order])


def looked_at_or_recent(queries: RetrievalQueries, limit: int) -> Seeds:
    """The context where there is one, else the `limit` most recent items; every weight is 1."""
    recent = recent_items(queries, limit, None)
    looking = np.diff(queries.context.offsets) > 0
    others = recent.where(~looking[recent.lists.request])
    request = np.concatenate([queries.context.request, others.lists.request])
    item = np.concatenate([queries.context.item, others.lists.item])
    order = np.argsort(request, kind="stable")
    return Seeds.equal(ItemLists.grouped(request[order], item[order], queries.count))
