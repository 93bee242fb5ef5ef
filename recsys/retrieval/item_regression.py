"""Linear models from item to item, solved in closed form: what goes with what, and what comes next.

A table of co-occurrence counts the same evidence again and again when many items go together; a
regression shares it out among them. Both models are dense over the items, so only the items taken
most often take part; the others keep what the tables of co-occurrence say of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from recsys.interactions import DAY_US, InteractionLog
from recsys.retrieval.neighbours import Entries, ItemNeighbours

Matrix = sparse.csr_matrix[np.float32]

MOST_ITEMS: Final = 6_000
EASE_PENALTY: Final = 100.0
NEXT_PENALTY: Final = 30.0
NEXT_HALF_LIFE_DAYS: Final = 60.0
SLICES: Final = 7
SLICE_DAYS: Final = 30.0
SLICE_DECAY: Final = 0.8


def ease(counts: Matrix, limit: int) -> ItemNeighbours:
    """EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", 2019), positive part.

    With X the 0/1 matrix, P = (X'X + 100 I)^-1 and weights -P_ij / P_jj off the diagonal.

    Args:
        counts: float32 (shoppers, items); only whether an entry is there matters.
        limit: largest weights kept for an item.
    """
    chosen = _most_taken(counts)
    taken = counts[:, chosen].sign().astype(np.float64)
    precision = linalg.inv((taken.T @ taken).toarray() + EASE_PENALTY * np.eye(len(chosen)))
    return _table(-precision / np.diag(precision), chosen, counts.shape[1], limit)


def next_items(log: InteractionLog, limit: int) -> ItemNeighbours:
    """Ridge regression of what a shopper takes up for the first time on what came before.

    The log is cut into slices of 30 days (shorter ones where it is short), back from its end. For
    each of the last 7, every shopper who took up something is an example: the items before the
    slice, with weights 0.5 ** (days since / 60), against the new items within it. A slice counts
    0.8 times as much as the one after it.

    Args:
        log: purchases count; all interest, if nothing was ever bought.
        limit: largest weights kept for an item.
    """
    shape = (len(log.user_ids), len(log.item_ids))
    pair, time = log.pair[log.taken], log.time[log.taken]
    chosen = _most_taken(_sparse(pair, np.ones(len(pair)), shape))
    seen, wanted = np.zeros((2, len(chosen), len(chosen)))
    for weight, start, end in _slices(time):
        before = time < start
        known, recent = _recent(pair[before], time[before], start)
        fresh = np.unique(pair[(time >= start) & (time < end)])
        fresh = fresh[~np.isin(fresh, known)]
        taken_up = _sparse(fresh, np.ones(len(fresh)), shape)[:, chosen]
        history = _sparse(known, recent, shape)[:, chosen]
        active = np.flatnonzero(np.diff(taken_up.indptr))
        history = history[active]
        seen += weight * (history.T @ history).toarray()
        wanted += weight * (history.T @ taken_up[active]).toarray()
    seen[np.diag_indices_from(seen)] += NEXT_PENALTY
    weights = linalg.solve(seen, wanted, assume_a="pos", overwrite_a=True)
    return _table(weights, chosen, shape[1], limit)


def _most_taken(counts: Matrix | sparse.csr_matrix[np.float64]) -> NDArray[np.int64]:
    """Rows of the items taken by most shoppers, ascending; items taken by nobody are not there."""
    takers = np.bincount(counts.indices, minlength=counts.shape[1])
    order = np.argsort(-takers, kind="stable")[:MOST_ITEMS]
    chosen: NDArray[np.int64] = np.sort(order[takers[order] > 0])
    return chosen


def _slices(time: NDArray[np.int64]) -> list[tuple[float, int, int]]:
    """Weight, start and end (microseconds) of each slice; each has something before it."""
    if not len(time):
        return []
    first, end = int(time.min()), int(time.max()) + 1
    length = int(min(SLICE_DAYS * DAY_US, (end - first) / (SLICES + 1)))
    starts = [end - (place + 1) * length for place in range(SLICES)]
    return [(SLICE_DECAY**place, start, start + length) for place, start in enumerate(starts)]


def _recent(
    pair: NDArray[np.int64], time: NDArray[np.int64], until: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct pairs and, by the last event of each, 0.5 ** (days until `until` / half-life)."""
    distinct, place = np.unique(pair, return_inverse=True)
    last = np.zeros(len(distinct), np.int64)
    np.maximum.at(last, place, time)
    return distinct, np.exp2(-(until - last) / DAY_US / NEXT_HALF_LIFE_DAYS)


def _sparse(
    pair: NDArray[np.int64], value: NDArray[np.float64], shape: tuple[int, int]
) -> sparse.csr_matrix[np.float64]:
    return sparse.coo_matrix((value, np.divmod(pair, shape[1])), shape=shape).tocsr()


def _table(
    weights: NDArray[np.float64], chosen: NDArray[np.int64], items: int, limit: int
) -> ItemNeighbours:
    """Neighbours of a dense matrix over `chosen`; its row is the item that is there already."""
    enough = weights > 0
    if limit + 1 < len(chosen):
        # At most the item itself is better than the `limit` best of the others.
        enough &= weights >= np.partition(weights, -limit - 1, axis=1)[:, -limit - 1, None]
    row, column = np.nonzero(enough)
    entries = Entries(chosen[row], chosen[column], weights[row, column])
    return ItemNeighbours.from_entries(entries, items, limit)
