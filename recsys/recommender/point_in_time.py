"""The one path from shoppers to ranked candidates, as of a point in time: training and serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.config import Configuration
from recsys.features import (
    FeatureInputs,
    FeatureMatrix,
    ItemColumns,
    feature_matrix,
    text_columns,
)
from recsys.interactions import (
    Candidates,
    Histories,
    InteractionLog,
    ItemLists,
    SearchedFor,
    ShownItems,
    floor_to_hour,
)
from recsys.recommender.candidates import Retriever, brought_without
from recsys.recommender.hourly import HourlyCounts
from recsys.recommender.texts import SIMILARITY_SEGMENTS, TextModels
from recsys.retrieval import CoOccurrence, NewArrivals, RetrievalQueries
from recsys.text import CLICK, PURCHASE, ShopperTexts

TEXT_SOURCES = ("text", "taste", "new_arrivals")


@dataclass(frozen=True)
class Shoppers:
    """n requests, as far as candidates and features depend on them.

    Attributes:
        histories: events before each request.
        shown: what each shopper was shown before the request.
        searched: what each shopper searched for before the request.
        context: items each shopper looks at or has in the basket.
        queries: n raw queries, "" for none.
        as_of: int64 (n,), microseconds since the epoch, all within the same full hour.
    """

    histories: Histories
    shown: ShownItems
    searched: SearchedFor
    context: ItemLists
    queries: list[str]
    as_of: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.as_of)

    def rows(self, first: int, last: int) -> Shoppers:
        """Requests `first` to `last` (exclusive)."""
        return Shoppers(
            self.histories.rows(first, last),
            self.shown.rows(first, last),
            self.searched.rows(first, last),
            self.context.rows(first, last),
            self.queries[first:last],
            self.as_of[first:last],
        )


@dataclass(frozen=True)
class ScoredCandidates:
    """Candidates with their features.

    Attributes:
        candidates: m candidates of n requests.
        features: float32 (m, f).
        sides: what the cross-encoder reads of the n shoppers.
        logits: float32 (m, 2), click and purchase; NaN where the cross-encoder was not run.
    """

    candidates: Candidates
    features: FeatureMatrix
    sides: ShopperTexts
    logits: NDArray[np.float32]

    @property
    def cross_encoder(self) -> NDArray[np.float32]:
        """float32 (m,): purchase logits."""
        return self.logits[:, PURCHASE]

    def without_text(self) -> ScoredCandidates:
        """Without the candidates that nothing but their texts brought."""
        kept = brought_without(self.candidates, TEXT_SOURCES)
        return replace(
            self,
            candidates=self.candidates.where(kept),
            features=self.features.where(kept),
            logits=self.logits[kept],
        )

    def nearest(self, limit: int) -> NDArray[np.bool_]:
        """Bool (m,): the `limit` candidates of each request that stand best anywhere; ties by row.

        A candidate's standing is its rank in any source but the shopper's own items, or by
        similarity.
        """
        names = self.features.names
        similarity = self.features.values[:, names.index("text_similarity_best")]
        return _nearest(self.candidates, similarity, limit)


class PointInTime:
    """A log that holds only what is known, and everything derived from it.

    Args:
        log: events before the point in time.
        co_occurrence: tables built from that log.
        texts: text models; they don't depend on the point in time.
        items: catalogue columns.
        config: how many candidates, segments and tokens.
        derived: sources and counts of the same log and items, where they are there already.
    """

    def __init__(
        self,
        log: InteractionLog,
        co_occurrence: CoOccurrence,
        texts: TextModels,
        items: ItemColumns,
        config: Configuration,
        derived: tuple[Retriever, HourlyCounts] | None = None,
    ) -> None:
        self.log = log
        self.texts = texts
        self._items = items
        self._config = config
        self.retriever, self._counts = derived or (
            self._sources(co_occurrence),
            HourlyCounts(log, items.leaf, texts.neighbours),
        )

    def over(self, items: ItemColumns) -> PointInTime:
        """The same with other columns of the same items; what does not change is shared."""
        counts = self._counts
        if not np.array_equal(items.leaf, self._items.leaf):
            counts = HourlyCounts(self.log, items.leaf, self.texts.neighbours)
        sources = self.retriever.listed_at(items.created_at)
        return PointInTime(
            self.log, sources.co_occurrence, self.texts, items, self._config, (sources, counts)
        )

    def _sources(self, co_occurrence: CoOccurrence) -> Retriever:
        log, texts, items = self.log, self.texts, self._items
        retrieval = self._config.retrieval
        return Retriever.build(
            log,
            co_occurrence,
            (texts.index, texts.neighbours, texts.tastes),
            NewArrivals(
                texts.vectors, items.created_at, retrieval.arrival_days, retrieval.recent_items
            ),
            retrieval,
        )

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """int64 (items,): events of the log by item, for filling up short lists."""
        return np.bincount(self.log.item, minlength=len(self.log.item_ids))

    def queries(self, shoppers: Shoppers) -> RetrievalQueries:
        """What the candidate sources are asked."""
        queries = RetrievalQueries(
            shoppers.histories,
            shoppers.context,
            shoppers.as_of,
            self.texts.query_vectors(shoppers.queries),
            shoppers.shown,
            shoppers.searched,
        )
        return replace(
            queries,
            tastes=self.retriever.tastes.weights(queries),
            similar_bought=self.retriever.similar_shoppers.bought_by_similar(queries),
        )

    def score(
        self,
        shoppers: Shoppers,
        queries: RetrievalQueries,
        candidates: Candidates,
        *,
        nearest: int | None,
    ) -> ScoredCandidates:
        """Text scores and features of candidates; a request's depend on that request alone.

        Args:
            shoppers: n requests.
            queries: the same, see `queries`.
            candidates: theirs.
            nearest: candidates of a request that the cross-encoder scores; None for all.
        """
        scored = self.unread(shoppers, queries, candidates)
        everything = np.ones(len(candidates.item), np.bool_)
        return self.read(scored, everything if nearest is None else scored.nearest(nearest))

    def unread(
        self, shoppers: Shoppers, queries: RetrievalQueries, candidates: Candidates
    ) -> ScoredCandidates:
        """What `score` gives, but for the cross-encoder, which has read nothing yet."""
        sides = self._sides(shoppers, queries)
        scores = self.texts.similarities(sides, candidates, queries.query_vectors)
        logits = np.full((len(candidates.item), 2), np.nan, np.float32)
        scores |= _named(logits)
        scores |= self.texts.neighbourhood(queries, candidates)
        tastes = self.retriever.tastes.scores(queries, candidates)
        scores |= {f"taste_{name}": affinity for name, affinity in tastes.items()}
        hour = floor_to_hour(int(shoppers.as_of.min()))
        demand = self._counts.demand(hour)
        scores |= {name: values[candidates.item] for name, values in demand.items()}
        scores |= self.texts.context_similarities(shoppers.context, candidates)
        together = self.retriever.co_occurrence.scores(queries, candidates)
        together["similar_shoppers"] = self.retriever.similar_shoppers.scores(queries, candidates)
        features = feature_matrix(
            FeatureInputs(
                items=self._items,
                statistics=self._counts.statistics(hour),
                histories=shoppers.histories,
                shown=shoppers.shown,
                context=shoppers.context,
                as_of=shoppers.as_of,
                candidates=candidates,
                text_scores=scores,
                co_occurrence_scores=together,
            )
        )
        short = self.texts.cut_to(sides, self._config.text.shopper_max_segments)
        return ScoredCandidates(candidates, features, short, logits)

    def read(
        self,
        scored: ScoredCandidates,
        which: NDArray[np.bool_],
        before_chunk: Callable[[], None] | None = None,
    ) -> ScoredCandidates:
        """The same after the cross-encoder has read the candidates `which` (bool (m,)), too.

        `before_chunk` is called again and again meanwhile, and may raise to end it.
        """
        if not which.any():
            return scored
        logits = scored.logits.copy()
        logits[which] = self.texts.logits(scored.sides, scored.candidates, which, before_chunk)[
            which
        ]
        columns = text_columns(scored.candidates.request, _named(logits))
        return replace(scored, features=scored.features.replacing(columns), logits=logits)

    def read_shopper(self, scored: ScoredCandidates) -> None:
        """Let the cross-encoder read the shoppers' sides, which `read` needs first."""
        self.texts.scorer.read_shoppers(scored.sides)

    def has_read_shopper(self, scored: ScoredCandidates) -> bool:
        """Whether `read_shopper` would take no time."""
        return self.texts.scorer.has_read(scored.sides)

    def not_remembered(
        self, scored: ScoredCandidates, which: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Bool (m,): those of `which` (m,) that `read` would take time for."""
        return self.texts.not_remembered(scored.sides, scored.candidates, which)

    def text_scores(
        self, shoppers: Shoppers, candidates: Candidates
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Best cosine to the shopper's titles by the untuned bi-encoder, and purchase logit.

        Every candidate is scored by both, float32 (m,) each; 0 for the cosine of a shopper without
        text. No shopper has a query.
        """
        queries = self.queries(shoppers)
        sides = self._sides(shoppers, queries)
        best = self.texts.untuned_similarity(sides, candidates)
        everything = np.ones(len(candidates.item), np.bool_)
        short = self.texts.cut_to(sides, self._config.text.shopper_max_segments)
        return np.nan_to_num(best), self.texts.logits(short, candidates, everything)[:, PURCHASE]

    def _sides(self, shoppers: Shoppers, queries: RetrievalQueries) -> ShopperTexts:
        return self.texts.shopper_texts(
            queries.visible, shoppers.context, shoppers.queries, SIMILARITY_SEGMENTS
        )


def _named(logits: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The cross-encoder's logits (m, 2) under the names of their text scores."""
    return {"cross_click": logits[:, CLICK], "cross_purchase": logits[:, PURCHASE]}


def _nearest(
    candidates: Candidates, similarity: NDArray[np.float32], limit: int
) -> NDArray[np.bool_]:
    """See `ScoredCandidates.nearest`; similarity is float32 (m,)."""
    others = [i for i, name in enumerate(candidates.source_names) if name != "own_items"]
    ranks = candidates.source_ranks[:, others]
    ranks = np.where(ranks < 0, np.iinfo(np.int32).max, ranks)
    request = candidates.request
    by_similarity = np.lexsort((-similarity, request))
    start = candidates.offsets[:-1]
    similar = np.empty(len(request), np.int64)
    similar[by_similarity] = np.arange(len(request)) - start[request[by_similarity]]
    best = np.minimum(ranks.min(axis=1, initial=np.iinfo(np.int32).max), similar)
    order = np.lexsort((candidates.item, best, request))
    keep = np.empty(len(request), np.bool_)
    keep[order] = np.arange(len(request)) - start[request[order]] < limit
    return keep
