"""The one path from shoppers to ranked candidates, as of a point in time: training and serving."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.config import Configuration
from recsys.features import (
    WINDOW_DAYS,
    FeatureInputs,
    FeatureMatrix,
    ItemColumns,
    ItemStatistics,
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
    kept_by_hour,
)
from recsys.recommender.candidates import Retriever
from recsys.recommender.texts import SIMILARITY_SEGMENTS, TextModels
from recsys.retrieval import CoOccurrence, NewArrivals, RetrievalQueries
from recsys.text import CLICK, PURCHASE, ShopperTexts

HOURS_KEPT = 8
TEXT_SOURCES = ("text", "taste", "new_arrivals")
DEMAND_NEIGHBOURS = 15
SMOOTHING = np.float32(0.1)


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
        ranks = self.candidates.source_ranks
        text = np.isin(self.candidates.source_names, TEXT_SOURCES)
        kept = np.any(ranks[:, ~text] >= 0, axis=1) | np.all(ranks < 0, axis=1)
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
    """

    def __init__(
        self,
        log: InteractionLog,
        co_occurrence: CoOccurrence,
        texts: TextModels,
        items: ItemColumns,
        config: Configuration,
    ) -> None:
        self.log = log
        self.texts = texts
        retrieval = config.retrieval
        self.retriever = Retriever.build(
            log,
            co_occurrence,
            (texts.index, texts.neighbours, texts.tastes),
            NewArrivals(
                texts.vectors, items.created_at, retrieval.arrival_days, retrieval.recent_items
            ),
            retrieval,
        )
        self._items = items
        self._config = config
        self.statistics = kept_by_hour(self._statistics, HOURS_KEPT)
        self._demand_around = kept_by_hour(self._neighbours_demand, HOURS_KEPT)

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """int64 (items,): events of the log by item, for filling up short lists."""
        return np.bincount(self.log.item, minlength=len(self.log.item_ids))

    def _statistics(self, hour: int) -> ItemStatistics:
        return ItemStatistics.at(self.log, hour, self._items.leaf)

    def _neighbours_demand(self, hour: int) -> dict[str, NDArray[np.float32]]:
        """What items of near meaning sold lately, relative to all, float32 (items,) each."""
        purchases = self.statistics(hour).purchases
        week, month, quarter = (
            self.texts.neighbours.mean_over(purchases[WINDOW_DAYS.index(days)], DEMAND_NEIGHBOURS)
            / max(float(purchases[WINDOW_DAYS.index(days)].mean()), 1e-9)
            for days in (7, 30, 90)
        )
        return {
            "neighbours_purchases": month.astype(np.float32),
            "neighbours_trend": np.log((month + SMOOTHING) / (quarter + SMOOTHING)),
            "neighbours_trend_7d": np.log((week + SMOOTHING) / (month + SMOOTHING)),
        }

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
        demand = self._demand_around(hour)
        scores |= {name: values[candidates.item] for name, values in demand.items()}
        scores |= self.texts.context_similarities(shoppers.context, candidates)
        together = self.retriever.co_occurrence.scores(queries, candidates)
        together["similar_shoppers"] = self.retriever.similar_shoppers.scores(queries, candidates)
        features = feature_matrix(
            FeatureInputs(
                items=self._items,
                statistics=self.statistics(hour),
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

    def read(self, scored: ScoredCandidates, which: NDArray[np.bool_]) -> ScoredCandidates:
        """The same after the cross-encoder has read the candidates `which` (bool (m,)), too."""
        if not which.any():
            return scored
        logits = scored.logits.copy()
        logits[which] = self.texts.logits(scored.sides, scored.candidates, which)[which]
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
