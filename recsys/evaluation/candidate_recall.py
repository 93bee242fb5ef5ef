"""Recall of candidates before any ranking: what each source brought, and how deep one must go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.item_sets import ItemSets
from recsys.interactions import Candidates, place_in_run


@dataclass(frozen=True)
class SourceRecall:
    """Recall by candidate source for n requests; NaN where a request has no relevant item.

    Attributes:
        alone: float64 (n, s), share of the relevant items in each source's own list.
        only: float64 (n, s), share that this source brought and no other.
        total: float64 (n,), share among all candidates, those that no source brought included.
        brought: int64 (n, s), candidates of each source.
        count: int64 (n,), candidates.
    """

    alone: NDArray[np.float64]
    only: NDArray[np.float64]
    total: NDArray[np.float64]
    brought: NDArray[np.int64]
    count: NDArray[np.int64]


def source_recall(candidates: Candidates, truth: ItemSets) -> SourceRecall:
    """Recall of candidates by the source that brought them.

    Args:
        candidates: of n requests; a negative item is never relevant.
        truth: n sets of relevant items.

    Raises:
        ValueError: another number of requests than sets.
    """
    relevant = _relevant(candidates, truth)
    brought = candidates.source_ranks >= 0
    alone_in = brought & (brought.sum(axis=1) == 1)[:, None]
    return SourceRecall(
        alone=_share(candidates, brought & relevant[:, None], truth),
        only=_share(candidates, alone_in & relevant[:, None], truth),
        total=_share(candidates, relevant[:, None], truth)[:, 0],
        brought=_per_request(candidates, brought),
        count=np.diff(candidates.offsets),
    )


def depth_recall(
    candidates: Candidates, truth: ItemSets, depths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Recall of the first `depths` candidates of each request.

    Candidates stand by their best rank in any source, ties in the order given (by row); those that
    no source brought come last.

    Args:
        candidates: of n requests; a negative item is never relevant.
        truth: n sets of relevant items.
        depths: (d,), numbers of candidates; beyond a request's own it counts all of them.

    Returns:
        float64 (n, d); NaN where a request has no relevant item.

    Raises:
        ValueError: another number of requests than sets.
    """
    last = np.iinfo(np.int32).max
    ranks = np.where(candidates.source_ranks < 0, last, candidates.source_ranks)
    order = np.lexsort((ranks.min(axis=1, initial=last), candidates.request))
    place = np.empty(len(order), np.int64)
    place[order] = place_in_run(candidates.request[order])
    found = _relevant(candidates, truth)[:, None] & (place[:, None] < depths)
    return _share(candidates, found, truth)


def _relevant(candidates: Candidates, truth: ItemSets) -> NDArray[np.bool_]:
    """Bool (m,): the candidate is in its request's set."""
    if candidates.count != truth.count:
        raise ValueError(f"{candidates.count} requests for {truth.count} sets of relevant items")
    return truth.places(candidates.request, candidates.item) >= 0


def _per_request(candidates: Candidates, marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Marked candidates (m, c) of each request: int64 (n, c)."""
    before = np.zeros((len(marked) + 1, marked.shape[1]), np.int64)
    np.cumsum(marked, axis=0, out=before[1:])
    return before[candidates.offsets[1:]] - before[candidates.offsets[:-1]]


def _share(
    candidates: Candidates, marked: NDArray[np.bool_], truth: ItemSets
) -> NDArray[np.float64]:
    found = _per_request(candidates, marked)
    share = np.full(found.shape, np.nan)
    sizes = np.broadcast_to(truth.sizes[:, None], found.shape)
    np.divide(found, sizes, out=share, where=sizes > 0)
    return share
