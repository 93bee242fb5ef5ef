"""Peers that the system is measured against: item-kNN as the `implicit` package makes it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.interactions import EventKind, InteractionLog

NEIGHBOURS: Final = 200
Scorer = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""User rows (n,) to scores (n, items); higher is better."""


def implicit_is_installed() -> bool:
    """Whether the `peers` extra is there."""
    return find_spec("implicit") is not None


def purchase_matrix(log: InteractionLog, time: int, kind: EventKind) -> sparse.csr_matrix:
    """1 where a shopper had such an event with an item before `time`: float64 (users, items)."""
    matrix = _counted(log, (log.time < time) & (log.kind == kind))
    matrix.data[:] = 1.0
    return matrix


def event_matrix(log: InteractionLog, time: int) -> sparse.csr_matrix:
    """Events but `hide` of a shopper with the item before `time`: float64 (users, items)."""
    return _counted(log, (log.time < time) & (log.kind != EventKind.HIDE))


def bm25_knn(matrix: sparse.csr_matrix, item_hashes: NDArray[np.uint64], threads: int) -> Scorer:
    """Item-kNN on BM25-weighted columns: `implicit`'s BM25Recommender(K=200, K1=1.2, B=0.75).

    Args:
        matrix: (users, items), strengths before the cut.
        item_hashes: (items,), order in which the neighbour search meets the items, so that equal
            neighbours don't depend on the order of the catalogue.
        threads: threads of the neighbour search; 0 takes all cores.
    """
    from implicit.nearest_neighbours import ItemItemRecommender, bm25_weight  # noqa: PLC0415

    order = np.argsort(item_hashes)
    shuffled = matrix[:, order]
    model = ItemItemRecommender(K=NEIGHBOURS, num_threads=threads)
    weighted = bm25_weight(shuffled.T, K1=1.2, B=0.75).T.tocsr()
    model.fit(weighted, show_progress=False)
    similarity: sparse.csr_matrix = model.similarity

    def score(users: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = np.empty((len(users), matrix.shape[1]))
        scores[:, order] = (shuffled[users] @ similarity).toarray()
        return scores

    return score


def _counted(log: InteractionLog, keep: NDArray[np.bool_]) -> sparse.csr_matrix:
    shape = (len(log.user_ids), len(log.item_ids))
    pairs = (log.user[keep], log.item[keep])
    return sparse.coo_matrix((np.ones(keep.sum()), pairs), shape=shape).tocsr()
