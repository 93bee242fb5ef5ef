"""Similar shoppers: what shoppers with the same tastes have been buying lately (user-kNN)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.interactions import (
    DAY_US,
    Candidates,
    InteractionLog,
    ItemLists,
)
from recsys.retrieval.neighbours import best_cells
from recsys.retrieval.queries import Matrix, RetrievalQueries, recent_items

SHOPPERS: Final = 20_000
SIMILAR: Final = 100
TASTE_HALF_LIFE_DAYS: Final = 90.0
BOUGHT_HALF_LIFE_DAYS: Final = 30.0
EVERYTHING: Final = 1_000
CELLS_PER_CHUNK: Final = 2_000_000
SMALLEST_NORM: Final = 1e-9


@dataclass(frozen=True)
class SimilarShoppers:
    """The shoppers active last, with what they like and what they bought of late.

    A shopper's taste is the vector of their items, weighted by rarity, `ln(shoppers / takers)`, and
    by 0.5 ** (days since the last purchase / 90), scaled to unit length.

    Attributes:
        rarity: float32 (items,).
        tastes: float32 (shoppers, items), unit rows.
        bought: float32 (shoppers, items), 0.5 ** (days since the last purchase / 30).
        name: as a source of candidates.
    """

    rarity: NDArray[np.float32]
    tastes: Matrix
    bought: Matrix
    name: str = "similar_shoppers"

    @classmethod
    def build(cls, log: InteractionLog) -> Self:
        """Read the purchases of a log (all interest, if nothing was ever bought).

        Days count back from the log's last event. Of more than 20,000 shoppers the latest count.
        """
        shape = (len(log.user_ids), len(log.item_ids))
        distinct, place = np.unique(log.pair[log.taken], return_inverse=True)
        last = np.zeros(len(distinct), np.int64)
        np.maximum.at(last, place, log.time[log.taken])
        user, item = np.divmod(distinct, shape[1])
        takers = np.bincount(item, minlength=shape[1])
        rarity = np.log(max(len(np.unique(user)), 1) / np.maximum(takers, 1)).astype(np.float32)
        latest = np.zeros(shape[0], np.int64)
        np.maximum.at(latest, user, last)
        kept = np.argsort(-latest, kind="stable")[: min(SHOPPERS, int((latest > 0).sum()))]
        days = (log.time.max(initial=0) - last) / DAY_US

        def decayed(half_life: float) -> Matrix:
            weight = np.exp2(-days / half_life).astype(np.float32)
            return sparse.coo_matrix((weight, (user, item)), shape=shape).tocsr()[np.sort(kept)]

        tastes = _unit(_times(decayed(TASTE_HALF_LIFE_DAYS), rarity))
        return cls(rarity, tastes, decayed(BOUGHT_HALF_LIFE_DAYS))

    def scores(self, queries: RetrievalQueries, candidates: Candidates) -> NDArray[np.float32]:
        """float32 (m,): sum over the 100 most similar shoppers of cosine x what they bought.

        The shopper of a request is among them; that adds to items of their own only. 0 for a
        shopper without history.
        """
        found = np.zeros(len(candidates.item), np.float32)
        bought = self._bought(queries)
        for first, last in self._chunks(queries.count):
            part = slice(*candidates.offsets[[first, last]])
            table = bought[first:last].toarray()
            found[part] = table[candidates.request[part] - first, candidates.item[part]]
        return found

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """The `k` items of the highest scores that the shopper has no event with; ties by row."""
        requests, items = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        bought = self._bought(queries)
        for first, last in self._chunks(queries.count):
            asked = queries.rows(first, last)
            table = bought[first:last].toarray()
            table[asked.visible.request, asked.visible.item] = 0
            row, item = best_cells(table, k)
            requests.append(row + first)
            items.append(item)
        return ItemLists.grouped(np.concatenate(requests), np.concatenate(items), queries.count)

    def _chunks(self, count: int) -> list[tuple[int, int]]:
        step = max(1, CELLS_PER_CHUNK // max(1, len(self.rarity)))
        return [(first, min(first + step, count)) for first in range(0, count, step)]

    def bought_by_similar(self, queries: RetrievalQueries) -> Matrix:
        """What `scores` and `retrieve` look at, for `RetrievalQueries.similar_bought`.

        Returns:
            float32 (n, items): sum over the 100 most similar shoppers of cosine x what they bought.
        """
        chunks = self._chunks(queries.count)
        cosines = (self._cosines(queries.rows(first, last)) for first, last in chunks)
        found: Matrix = sparse.vstack([self.bought[:0], *(c @ self.bought for c in cosines)], "csr")
        return found

    def _bought(self, queries: RetrievalQueries) -> Matrix:
        known = queries.similar_bought
        return self.bought_by_similar(queries) if known is None else known

    def _cosines(self, queries: RetrievalQueries) -> Matrix:
        """float32 (n, shoppers): the 100 highest cosines of each row."""
        seeds = recent_items(queries, EVERYTHING, TASTE_HALF_LIFE_DAYS)
        shape = (queries.count, len(self.rarity))
        own = (seeds.weight.astype(np.float32), seeds.lists.item, seeds.lists.offsets)
        tastes = _unit(_times(sparse.csr_matrix(own, shape=shape), self.rarity))
        cosine = (tastes @ self._tastes_by_item).toarray()
        if cosine.shape[1] > SIMILAR:
            bound = np.partition(cosine, -SIMILAR, axis=1)[:, -SIMILAR][:, None]
            cosine[cosine < bound] = 0
        return sparse.csr_matrix(cosine)

    @cached_property
    def _tastes_by_item(self) -> Matrix:
        """float32 (items, shoppers)."""
        return self.tastes.T.tocsr()


def _times(matrix: Matrix, weight: NDArray[np.float32]) -> Matrix:
    """The matrix with each column times its weight."""
    scaled = matrix.copy()
    scaled.data = scaled.data * weight[scaled.indices]
    return scaled


def _unit(matrix: Matrix) -> Matrix:
    """The matrix with rows of unit length; rows of zeros stay."""
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scaled = matrix.copy()
    scaled.data = scaled.data / np.repeat(np.maximum(norm, SMALLEST_NORM), np.diff(matrix.indptr))
    scaled.data = scaled.data.astype(np.float32)
    return scaled
