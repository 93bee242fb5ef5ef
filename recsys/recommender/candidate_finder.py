"""What is to be ranked for a request, and how a page is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.interactions import EventKind
from recsys.page import Composition, PageComposer
from recsys.recommender.answers import Compose
from recsys.recommender.candidates import (
    brought_without,
    filled_up,
    found_by_query,
    given,
    most_popular,
    with_items,
)
from recsys.recommender.cascade import Unranked
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.clock import Asked, BundleClock
from recsys.recommender.point_in_time import TEXT_SOURCES, PointInTime, Shoppers
from recsys.recommender.policies import AS_TRAINED, RankedBy, RankingPolicy
from recsys.recommender.requests import ItemFilter, RankRequest, RecommendRequest
from recsys.recommender.shoppers import ShopperReader
from recsys.recommender.watching import UNWATCHED, Watcher, unless_it_fails

QUERY_FAILED: Final = "query_encoder_failed"


class CandidateFinder:
    """Finds the candidates of requests.

    Args:
        point: what finds and scores them.
        catalogue: what may be returned.
        reader: what is known of shoppers.
        composer: makes pages of them.
        clock: what time it is for requests.
    """

    def __init__(
        self,
        point: PointInTime,
        catalogue: Catalogue,
        reader: ShopperReader,
        composer: PageComposer,
        clock: BundleClock,
    ) -> None:
        self._point = point
        self._catalogue = catalogue
        self._reader = reader
        self._composer = composer
        self._clock = clock

    def to_rank(
        self,
        batch: Sequence[RecommendRequest],
        watcher: Watcher = UNWATCHED,
        policy: RankingPolicy = AS_TRAINED,
    ) -> tuple[Unranked, Compose]:
        """What is retrieved, as far as each request allows it and filled up; and its pages."""
        shoppers, queries, retrieved = self._retrieved(batch, watcher)
        searched = queries.has_query
        if policy.ranked_by is RankedBy.WITHOUT_TEXT:
            kept = searched[retrieved.request] | brought_without(retrieved, TEXT_SOURCES)
            retrieved = retrieved.where(kept)
        rules = [self._composer.rules.at(self._clock.moment(request.as_of)) for request in batch]
        asked = list(zip(batch, rules, strict=True))
        pinned = [own.pinned(request.page_size) for request, own in asked]
        found = found_by_query(with_items(retrieved, pinned), searched)
        allowed = [self._allowed(r, shoppers, i) for i, r in enumerate(batch)]
        wanted = [self._composer.candidates(request.page_size, own) for request, own in asked]
        if policy.ranked_by is RankedBy.POPULARITY and not searched.any():
            popularity = self._point.retriever.popular.scores(int(shoppers.as_of[0]))
            found = most_popular(found, allowed, popularity)
        least = np.where(searched, 0, wanted)
        candidates = filled_up(found, allowed, least, self._point.popularity)

        def compose(i: int, ranked: NDArray[np.int32], score: NDArray[np.float64]) -> Composition:
            size = batch[i].page_size
            pool = policy.exploration.pool if policy.exploration else 0
            composed = self._composer.compose(
                ranked, size, rules[i], searched=bool(searched[i]), pool=pool
            )
            if policy.exploration is None:
                return composed
            ids = [self._catalogue.item_ids[row] for row in ranked[composed.places]]
            return policy.exploration.drawn(composed, score, ids, size)

        return (shoppers, queries, candidates), compose

    def given(self, batch: Sequence[RankRequest], watcher: Watcher = UNWATCHED) -> Unranked:
        """The callers' items as candidates, with what would have brought them."""
        shoppers, queries, found = self._retrieved(batch, watcher)
        rows = [self._reader.rows(request.item_ids) for request in batch]
        available = self._catalogue.available
        return shoppers, queries, given([own[available[own]] for own in rows], found)

    def _retrieved(self, batch: Sequence[Asked], watcher: Watcher) -> Unranked:
        shoppers = self._reader.shoppers(batch)
        queries = unless_it_fails(watcher, QUERY_FAILED, lambda: self._point.queries(shoppers))
        if queries is None:
            shoppers = replace(shoppers, queries=[""] * len(batch))
            queries = self._point.queries(shoppers)
        return shoppers, queries, self._point.retriever.retrieve(queries)

    def _allowed(
        self, request: RecommendRequest, shoppers: Shoppers, place: int
    ) -> NDArray[np.bool_]:
        plain = request.filter == ItemFilter(exclude_purchased=request.filter.exclude_purchased)
        known = self._catalogue.available if plain else self._catalogue.matches(request.filter)
        allowed = known.copy()
        if request.filter.exclude_purchased:
            own = shoppers.histories.rows(place, place + 1)
            allowed[own.item[own.kind == EventKind.PURCHASE]] = False
        allowed[shoppers.context.rows(place, place + 1).item] = False
        return allowed
