"""The candidate sources of one point in time, set up as configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from recsys.config import RetrievalConfig
from recsys.interactions import Candidates, InteractionLog
from recsys.retrieval import (
    CandidateSource,
    CoOccurrence,
    CoOccurrenceSource,
    ItemNeighbours,
    NewArrivals,
    NextItems,
    OwnItems,
    Popular,
    RetrievalQueries,
    SimilarShoppers,
    Taste,
    Tastes,
    TextNeighbours,
    VectorIndex,
    merge,
)

MOST_POPULAR: Final = 1_000
"""Items that are ranked where popularity alone counts: more than any page needs."""


@dataclass(frozen=True)
class Retriever:
    """All sources with the number of items each may bring.

    Attributes:
        sources: in the order of the columns of the candidates' provenance.
        limits: most items of each source.
        co_occurrence: the tables behind two of the sources, for features.
        similar_shoppers: one of the sources, for features.
        tastes: one of the sources, for features.
        popular: one of the sources, which can order all items.
    """

    sources: tuple[CandidateSource, ...]
    limits: tuple[int, ...]
    co_occurrence: CoOccurrence
    similar_shoppers: SimilarShoppers
    tastes: Tastes
    popular: Popular

    @classmethod
    def build(
        cls,
        log: InteractionLog,
        co_occurrence: CoOccurrence,
        text: tuple[VectorIndex, ItemNeighbours, Mapping[str, Taste]],
        arrivals: NewArrivals,
        config: RetrievalConfig,
    ) -> Self:
        """Sources over a log that holds only what is known at the time of the requests."""
        index, neighbours, spaces = text
        similar = SimilarShoppers.build(log)
        tastes = Tastes.build(log, spaces, config.popular_days)
        popular = Popular(log, config.popular_days)
        return cls(
            sources=(
                TextNeighbours(index, neighbours, config.recent_items),
                CoOccurrenceSource(co_occurrence, config.recent_items),
                NextItems(co_occurrence, config.history_items),
                similar,
                tastes,
                arrivals,
                popular,
                OwnItems(),
            ),
            limits=(
                config.text_neighbours,
                config.co_occurrence,
                config.next_items,
                config.similar_shoppers,
                config.taste,
                config.new_arrivals,
                config.popular,
                config.own_items,
            ),
            co_occurrence=co_occurrence,
            similar_shoppers=similar,
            tastes=tastes,
            popular=popular,
        )

    def listed_at(self, created_at: NDArray[np.int64]) -> Self:
        """The same with other times since when items can be bought, int64 (items,)."""
        sources = tuple(
            replace(source, created_at=created_at) if isinstance(source, NewArrivals) else source
            for source in self.sources
        )
        return replace(self, sources=sources)

    @property
    def names(self) -> tuple[str, ...]:
        """The sources' names."""
        return tuple(source.name for source in self.sources)

    def retrieve(self, queries: RetrievalQueries) -> Candidates:
        """The union of all sources' lists for n requests, with provenance."""
        return merge(
            {
                source.name: source.retrieve(queries, limit)
                for source, limit in zip(self.sources, self.limits, strict=True)
            }
        )


def given(rows: Sequence[NDArray[np.int64]], found: Candidates | None) -> Candidates:
    """Candidates with exactly the given rows; provenance from `found` where it has them."""
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in rows])]).astype(np.int64)
    item = np.concatenate([np.zeros(0, np.int64), *(np.sort(own) for own in rows)])
    names = found.source_names if found else ()
    ranks = np.full((len(item), len(names)), -1, np.int32)
    if found is not None and len(found.item):
        stride = int(max(item.max(initial=0), found.item.max())) + 1
        request = np.repeat(np.arange(len(rows)), np.diff(offsets))
        have = found.request * stride + found.item
        wanted = request * stride + item
        place = np.minimum(np.searchsorted(have, wanted), len(have) - 1)
        hit = have[place] == wanted
        ranks[hit] = found.source_ranks[place[hit]]
    return Candidates(offsets, item.astype(np.int32), names, ranks)


def found_by_query(found: Candidates, asked: NDArray[np.bool_]) -> Candidates:
    """For requests with a query (`asked`, bool (n,)) only what the text source brought."""
    text = found.source_ranks[:, found.source_names.index(TextNeighbours.name)]
    return found.where(~asked[found.request] | (text >= 0))


def filled_up(
    found: Candidates,
    allowed: Sequence[NDArray[np.bool_]],
    sizes: Sequence[int] | NDArray[np.int64],
    popularity: NDArray[np.int64] | NDArray[np.float64],
) -> Candidates:
    """Drop what isn't allowed; fill requests left with too few with allowed items, popular first.

    Args:
        found: of n requests.
        allowed: n times bool (items,).
        sizes: n numbers of candidates wanted at least.
        popularity: (items,); ties by row.
    """
    rows = []
    for i, (mask, size) in enumerate(zip(allowed, sizes, strict=True)):
        own = found.item[found.offsets[i] : found.offsets[i + 1]].astype(np.int64)
        own = own[mask[own]]
        rows.append(own if len(own) >= size else _topped_up(own, mask, size, popularity))
    return given(rows, found)


def brought_without(found: Candidates, sources: tuple[str, ...]) -> NDArray[np.bool_]:
    """Bool (m,): what others than the named sources brought, or none at all."""
    named = np.isin(found.source_names, sources)
    ranks = found.source_ranks
    others = np.any(ranks[:, ~named] >= 0, axis=1)
    return np.asarray(others | np.all(ranks < 0, axis=1), np.bool_)


def most_popular(
    found: Candidates, allowed: Sequence[NDArray[np.bool_]], popularity: NDArray[np.float64]
) -> Candidates:
    """The `MOST_POPULAR` allowed items beside what was found, for each of n requests.

    Args:
        found: of n requests.
        allowed: n times bool (items,).
        popularity: float64 (items,); ties by row.
    """
    return filled_up(found, allowed, np.diff(found.offsets) + MOST_POPULAR, popularity)


def with_items(found: Candidates, added: Sequence[NDArray[np.int32]]) -> Candidates:
    """Candidates with the given item rows of each request beside what was found for it."""
    if not any(len(rows) for rows in added):
        return found
    parts = np.split(found.item, found.offsets[1:-1])
    together = (np.union1d(own, rows) for own, rows in zip(parts, added, strict=True))
    return given([rows.astype(np.int64) for rows in together], found)


def _topped_up(
    own: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    size: int,
    popularity: NDArray[np.int64] | NDArray[np.float64],
) -> NDArray[np.int64]:
    left = allowed.copy()
    left[own] = False
    others = np.flatnonzero(left)
    order = np.argsort(-popularity[others], kind="stable")
    return np.concatenate([own, others[order[: size - len(own)]]])
