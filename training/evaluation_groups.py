"""Groups for validation and test: the candidates that serving would make, labelled by what came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EmptyTableError
from recsys.interactions import Candidates, EventKind, InteractionLog, ItemLists
from recsys.recommender import Retriever
from recsys.retrieval import RetrievalQueries
from recsys.text import render_shoppers
from training.examples import CLICKED, NOT_CLICKED, PADDING, PURCHASED, Groups
from training.time_split import Slice

CANDIDATES_PER_GROUP = 100


@dataclass(frozen=True)
class LaterInterest:
    """What shoppers took up in a slice and had never touched before it.

    Attributes:
        users: int64 (n,), user rows with a history before the slice, ascending.
        pair: int64 (m,), sorted `place in users * items + item row`.
        label: int8 (m,), `CLICKED` or `PURCHASED`, the strongest event in the slice.
    """

    users: NDArray[np.int64]
    pair: NDArray[np.int64]
    label: NDArray[np.int8]


def later_interest(log: InteractionLog, part: Slice) -> LaterInterest:
    """First-time interest of shoppers with a history, within `part`."""
    items = len(log.item_ids)
    interest = log.kind != EventKind.HIDE
    pair = log.user.astype(np.int64) * items + log.item
    before = interest & (log.time < part.start)
    inside = interest & (log.time >= part.start) & (log.time < part.end)
    fresh = inside & ~np.isin(pair, pair[before]) & np.isin(log.user, log.user[before])
    found = np.unique(pair[fresh])
    bought = np.isin(found, pair[fresh & (log.kind == EventKind.PURCHASE)])
    users, place = np.unique(found // items, return_inverse=True)
    label = np.where(bought, PURCHASED, CLICKED).astype(np.int8)
    return LaterInterest(users, place * items + found % items, label)


def evaluation_groups(
    log: InteractionLog,
    part: Slice,
    retriever: Retriever,
    limit: int,
    rng: np.random.Generator,
    max_segments: int,
) -> Groups:
    """At most `limit` shoppers of the slice, each with up to 100 candidates new to them.

    The candidates come from the sources as they stood at the slice's start, nearest rank in any
    source first; what the shopper took up before is left out. Positives that no source brought are
    counted as missed.

    Raises:
        EmptyTableError: nobody with a history took up a new item in the slice.
    """
    wanted = later_interest(log, part)
    if not len(wanted.users):
        raise EmptyTableError(
            "no shopper with a history took up a new item in a validation or test slice; "
            "give more events or longer windows"
        )
    chosen = np.sort(rng.permutation(len(wanted.users))[:limit])
    users = wanted.users[chosen]
    histories = log.histories(users).before(np.full(len(users), part.start))
    nothing = ItemLists.empty(len(users))
    queries = RetrievalQueries(histories, nothing, np.full(len(users), part.start))
    candidates = _nearest(_new_to_shopper(retriever.retrieve(queries), queries))
    shoppers = render_shoppers(
        histories,
        nothing,
        [""] * len(users),
        item_count=len(log.item_ids),
        max_segments=max_segments,
    )
    item, label = _columns(candidates, chosen, wanted, len(log.item_ids))
    relevant = np.bincount(wanted.pair // len(log.item_ids), minlength=len(wanted.users))
    return Groups(shoppers, item, label, relevant[chosen])


def _new_to_shopper(candidates: Candidates, queries: RetrievalQueries) -> Candidates:
    seen = queries.visible
    stride = int(max(candidates.item.max(initial=0), seen.item.max(initial=0))) + 1
    known = np.isin(
        candidates.request * stride + candidates.item, seen.request * stride + seen.item
    )
    return candidates.where(~known)


def _nearest(candidates: Candidates) -> Candidates:
    """The candidates of best rank in any source, `CANDIDATES_PER_GROUP` a request."""
    ranks = np.where(candidates.source_ranks < 0, np.iinfo(np.int32).max, candidates.source_ranks)
    order = np.lexsort((candidates.item, ranks.min(axis=1), candidates.request))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - candidates.offsets[candidates.request[order]]
    return candidates.where(place < CANDIDATES_PER_GROUP)


def _columns(
    candidates: Candidates, chosen: NDArray[np.int64], wanted: LaterInterest, items: int
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    request = candidates.request
    column = np.arange(len(request)) - candidates.offsets[request]
    item = np.zeros((candidates.count, CANDIDATES_PER_GROUP), np.int32)
    label = np.full(item.shape, PADDING, np.int8)
    pair = chosen[request] * items + candidates.item
    place = np.minimum(np.searchsorted(wanted.pair, pair), len(wanted.pair) - 1)
    taken = wanted.pair[place] == pair
    item[request, column] = candidates.item
    label[request, column] = np.where(taken, wanted.label[place], NOT_CLICKED)
    return item, label
