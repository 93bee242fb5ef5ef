"""New arrivals: items listed lately, nearest by text to what the shopper looks at or took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.interactions import DAY_US, ItemLists
from recsys.retrieval.queries import RetrievalQueries, looked_at_or_recent


@dataclass(frozen=True)
class NewArrivals:
    """What nobody can have bought often yet, so that only its text speaks for it.

    An item's closeness is that to the nearest of the shopper's items, or to the query.

    Attributes:
        vectors: float32 (items, d), unit rows.
        created_at: int64 (items,), microseconds since the epoch, UTC; far back where unknown.
        days: age in days up to which an item is new; one listed after the request's time is new.
        recent: most recent distinct items of a history that are looked at.
    """

    vectors: NDArray[np.float32]
    created_at: NDArray[np.int64]
    days: float
    recent: int
    name: str = "new_arrivals"

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """See `CandidateSource`; nothing for a request with no query, context or history.

        Items that the shopper has an event with are left out.
        """
        seeds = looked_at_or_recent(queries, self.recent).lists
        since = queries.as_of - int(self.days * DAY_US)
        lists: list[list[int]] = []
        for request in range(queries.count):
            rows = np.flatnonzero(self.created_at > since[request])
            side = self._side(queries, seeds, request)
            if k < 1 or not len(side) or not len(rows):
                lists.append([])
                continue
            closeness = (self.vectors[rows] @ side.T).max(axis=1)
            touched = queries.visible.rows(request, request + 1).item
            fresh = ~np.isin(rows, touched)
            rows, closeness = rows[fresh], closeness[fresh]
            lists.append(rows[np.lexsort((rows, -closeness))[:k]].tolist())
        return ItemLists.of(lists)

    def _side(
        self, queries: RetrievalQueries, seeds: ItemLists, request: int
    ) -> NDArray[np.float32]:
        if queries.query_vectors is not None and queries.has_query[request]:
            return queries.query_vectors[request : request + 1]
        own = seeds.item[seeds.offsets[request] : seeds.offsets[request + 1]]
        return self.vectors[own]
