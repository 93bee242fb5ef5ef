"""The recommender: requests in, ranked lists out, from one bundle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from recsys.errors import RequestError
from recsys.interactions import DAY_US, Candidates, microseconds
from recsys.page import PageComposer
from recsys.ranker import RankerTier
from recsys.recommender.answers import (
    Compose,
    TextScores,
    TieredAnswers,
    as_ranked,
    ranked_pages,
    with_unscored,
)
from recsys.recommender.candidate_finder import QUERY_FAILED, CandidateFinder
from recsys.recommender.candidates import given
from recsys.recommender.cascade import OVERHEADS, Cascade, Ranking, Unranked
from recsys.recommender.changed_contents import ChangesTaken, changed_contents
from recsys.recommender.clock import Asked, BundleClock
from recsys.recommender.contents import Contents
from recsys.recommender.deadline import NO_DEADLINE, Clock, Deadline, StepTimes
from recsys.recommender.item_reader import ItemReader
from recsys.recommender.point_in_time import PointInTime
from recsys.recommender.policies import AS_TRAINED, RankedBy, RankingPolicy
from recsys.recommender.requests import (
    ItemCard,
    RankedList,
    RankRequest,
    RecommendRequest,
    SimilarItemsRequest,
)
from recsys.recommender.shoppers import ShopperReader
from recsys.recommender.similar_items import similar_items
from recsys.recommender.watching import Watcher
from recsys.state import ItemChange
from recsys.text import PairScoreCounts
from recsys.turns import TURNS

Advance = Callable[[int], None]
STALE_BUNDLE: Final = "stale_bundle"
WARM_UP_EVENTS: Final = 1_000
WARM_UP_SHOPPERS: Final = 8


class Recommender:
    """Answers requests from one bundle; safe for calls from several threads.

    Args:
        contents: the bundle's parts.
        version: the bundle's version.
        horizon: events before it are known.
        point: what is derived from the contents, where it is there already.
        times: what the steps of a request have been taking, where that is known already.
        reader: of the contents, where it is there already.
    """

    def __init__(
        self,
        contents: Contents,
        version: str,
        horizon: datetime,
        point: PointInTime | None = None,
        times: StepTimes | None = None,
        reader: ItemReader | None = None,
    ) -> None:
        self._contents = contents
        self._item_reader = reader or ItemReader.of(contents)
        self._catalogue = contents.catalogue
        self._log = contents.log
        self._version = version
        self._point = point or PointInTime(
            contents.log,
            contents.co_occurrence,
            contents.texts,
            contents.catalogue.columns,
            contents.configuration,
        )
        composer = PageComposer(
            contents.configuration.page,
            contents.rules,
            contents.texts.vectors,
            contents.catalogue.columns.category,
        )
        self._nearest = contents.configuration.cross_encoder.candidates
        latest = int(contents.log.time.max(initial=0)) + DAY_US
        self._clock = BundleClock(horizon, max(microseconds(horizon), latest))
        self._reader = ShopperReader(contents.log, self._catalogue.gone, self._clock)
        self._finder = CandidateFinder(
            self._point, self._catalogue, self._reader, composer, self._clock
        )
        self._times = times or StepTimes(OVERHEADS)
        self._cascade = Cascade(contents.rankers, self._point, self._nearest, self._times)

    def after(self, changes: Sequence[ItemChange]) -> tuple[Recommender, ChangesTaken]:
        """The same bundle's recommender after changes of the catalogue; this one stays as it is."""
        own = self._contents
        new, taken = changed_contents(own, changes, self._item_reader)
        point = self._point.over(new.catalogue.columns) if new.texts is own.texts else None
        known = point, self._times, self._item_reader
        return Recommender(new, self._version, self.horizon, *known), taken

    @property
    def updated_at(self) -> Mapping[str, int]:
        """When the shop last changed an item's row, microseconds since the epoch, where known."""
        return self._catalogue.updated_at

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return self._version

    @property
    def horizon(self) -> datetime:
        """Events before it are in the bundle; aware of its time zone."""
        return self._clock.horizon

    @property
    def catalogue(self) -> pl.DataFrame:
        """The items table as far as serving needs it."""
        return self._catalogue.table

    @property
    def remembered_pairs(self) -> PairScoreCounts:
        """How often a remembered score spared the cross-encoder its work, since the warm-up."""
        return self._contents.texts.scorer.pair_scores.counts

    def card(self, item_id: str) -> ItemCard | None:
        """What to show of an item; None for an unknown one."""
        row = self._reader.row(item_id)
        return None if row is None else self._catalogue.card(row)

    def recommend(
        self,
        request: RecommendRequest,
        deadline: Deadline = NO_DEADLINE,
        policy: RankingPolicy = AS_TRAINED,
    ) -> RankedList:
        """Find and rank items; see `recommend_many`, and `RankingPolicy` for other ways to do it.

        Where the cross-encoder would end after the deadline, it reads the most promising candidates
        or none, and the answer's `degraded` says so.

        Raises:
            RequestError: `as_of` is before the horizon or naive; names the field.
            DeadlineError: the deadline passed, or would have before any ranking was done.
        """

        def find() -> tuple[Unranked, Compose]:
            return self._finder.to_rank([request], deadline.watcher, policy)

        return self._in_time(request, deadline, find, policy.ranked_by)

    def rank(self, request: RankRequest, deadline: Deadline = NO_DEADLINE) -> RankedList:
        """Order the caller's items; see `rank_many`, and `recommend` for the deadline.

        Raises:
            RequestError: `as_of` is before the horizon or naive; names the field.
            DeadlineError: the deadline passed, or would have before any ranking was done.
        """

        def given_items() -> tuple[Unranked, Compose]:
            return self._finder.given([request], deadline.watcher), as_ranked

        found = self._in_time(request, deadline, given_items)
        return with_unscored(found, request.item_ids, self._reader.row)

    def _in_time(
        self,
        request: Asked,
        deadline: Deadline,
        find: Callable[[], tuple[Unranked, Compose]],
        ranked_by: RankedBy = RankedBy.FULL,
    ) -> RankedList:
        """Find a request's candidates, rank them and write the answer, as the time allows."""
        times = self._times
        own = len(request.item_ids) if isinstance(request, RankRequest) else None
        write = "explain" if request.explain else "answer"
        times.require(deadline, {"retrieve": 1, **self._cascade.least(own), write: 1})
        with TURNS.taken():
            with times.measured("retrieve", 1, deadline):
                asked, compose = find()
            self._tell(deadline.watcher, request, asked[2])
            until = deadline.but(times.expected({write: 1}))
            ranking = self._ranked(asked, until, ranked_by, nearest_only=own is None)
            with times.measured(write, 1, deadline):
                answer = self._answers([request], ranking, compose)[0]
        lost = (QUERY_FAILED,) if request.query and not asked[0].queries[0] else ()
        return replace(answer, degraded=answer.degraded + lost)

    def _ranked(
        self, asked: Unranked, until: Deadline, ranked_by: RankedBy, *, nearest_only: bool
    ) -> Ranking:
        if ranked_by.tier is None:
            popularity = self._point.retriever.popular.scores(int(asked[0].as_of[0]))
            return self._cascade.by_popularity(popularity, asked, until)
        if ranked_by.tier is not RankerTier.FULL:
            return self._cascade.by_tier(ranked_by.tier, asked, until)
        return self._cascade.ranked(asked, until, nearest_only=nearest_only)

    def _tell(self, watcher: Watcher, request: Asked, found: Candidates) -> None:
        """Say what was found for a request, and what of it is unknown."""
        counts = (found.source_ranks >= 0).sum(axis=0).tolist()
        watcher.found(dict(zip(found.source_names, counts, strict=True)))
        named = {*request.context_item_ids, *getattr(request, "item_ids", ())}
        watcher.unknown(
            shopper=bool(request.user_id)
            and request.user_id not in self._log.user_rows
            and not request.recent,
            items=sum(self._reader.row(item) is None for item in named),
        )

    def warm_up(self, clock: Clock, shoppers: int = WARM_UP_SHOPPERS) -> None:
        """Answer some of the latest shoppers, to fill caches and to learn how long steps take.

        Steps of calls in a hurry are taken, too. What the cross-encoder said is forgotten again.

        Args:
            clock: the seconds that the steps take.
            shoppers: how many, beside an unknown one.
        """
        latest = np.unique(self._log.user[-WARM_UP_EVENTS:])[:shoppers]
        endless = Deadline(sys.float_info.max, clock)
        for user in ("", *(self._log.user_ids[row] for row in latest)):
            for explain in (False, True):
                self.recommend(RecommendRequest(user_id=user, explain=explain), endless)
            self._contents.texts.scorer.forget()
            self._cascade.rehearse(
                self._finder.to_rank([RecommendRequest(user_id=user)])[0], endless
            )
            self._contents.texts.scorer.forget()

    def recommend_many(
        self, requests: Sequence[RecommendRequest], advance: Advance | None = None
    ) -> list[RankedList]:
        """Retrieve, filter, score, rank and compose; requests don't change each other's answers.

        What the shopper looks at or has in the basket is not among the answers.

        With a query only what the text search finds is ranked. A list without a query that filters
        or a short history leave with fewer than `page_size` candidates is filled up with allowed
        items, most popular first; where pages are composed from a pool, up to its size.

        Merchandising rules are those in force at `as_of`, not at the clock of the features, which
        stops a day after the last known event; without `as_of`, those in force at that clock.

        Raises:
            RequestError: `as_of` is before the horizon or naive; names the field.
        """
        found = self._recommended(requests, (RankerTier.FULL,), advance)
        return found.answers[RankerTier.FULL]

    def recommend_by_tier(
        self, requests: Sequence[RecommendRequest], advance: Advance | None = None
    ) -> TieredAnswers:
        """What `recommend_many` answers and what the rankers of cheaper tiers would, scored once.

        Without text, candidates that nothing but text brought are left out.

        Raises:
            RequestError: `as_of` is before the horizon or naive; names the field.
        """
        return self._recommended(requests, tuple(RankerTier), advance)

    def _recommended(
        self,
        requests: Sequence[RecommendRequest],
        tiers: tuple[RankerTier, ...],
        advance: Advance | None,
    ) -> TieredAnswers:
        answers: dict[RankerTier, list[RankedList]] = {tier: [] for tier in tiers}
        found, probability = [], [np.zeros(0)]
        for batch in self._clock.batches(requests):
            (shoppers, queries, candidates), compose = self._finder.to_rank(batch)
            scored = self._point.score(shoppers, queries, candidates, nearest=self._nearest)
            for tier in tiers:
                visible = scored.without_text() if tier == RankerTier.WITHOUT_TEXT else scored
                ranking = Ranking.by(self._contents.rankers[tier], visible)
                answers[tier] += self._answers(batch, ranking, compose)
            found.append(candidates)
            probability.append(self._contents.calibration.probability(scored.cross_encoder))
            if advance:
                advance(len(batch))
        everything = Candidates.joined(found, self._point.retriever.names)
        return TieredAnswers(answers, everything, np.concatenate(probability))

    def candidates_many(
        self, requests: Sequence[RecommendRequest], advance: Advance | None = None
    ) -> Candidates:
        """What `recommend_many` ranks for each request, and which source brought it; no scoring.

        Items are rows of `catalogue`. An item of no source's list filled its request up.

        Raises:
            RequestError: `as_of` is before the horizon or naive; names the field.
        """
        found: list[Candidates] = []
        for batch in self._clock.batches(requests):
            found.append(self._finder.to_rank(batch)[0][2])
            if advance:
                advance(len(batch))
        return Candidates.joined(found, self._point.retriever.names)

    def rank_many(
        self, requests: Sequence[RankRequest], advance: Advance | None = None
    ) -> list[RankedList]:
        """Order each caller's own items; every id once, see `RankedList.items`.

        Raises:
            RequestError: `as_of` is before the horizon or naive; names the field.
        """
        answers: list[RankedList] = []
        for batch in self._clock.batches(requests):
            scored = self._point.score(*self._finder.given(batch), nearest=None)
            ranking = Ranking.by(self._contents.rankers[RankerTier.FULL], scored)
            ranked = self._answers(batch, ranking, as_ranked)
            answers += [
                with_unscored(answer, request.item_ids, self._reader.row)
                for answer, request in zip(ranked, batch, strict=True)
            ]
            if advance:
                advance(len(batch))
        return answers

    def similar_items(self, request: SimilarItemsRequest) -> RankedList:
        """Neighbours of an item by text and by behaviour, joined by reciprocal rank fusion.

        Raises:
            UnknownItemError: the item is not in the catalogue.
        """
        return similar_items(self._contents, self._version, request)

    def text_scores(
        self, requests: Sequence[RecommendRequest], item_ids: Sequence[str]
    ) -> TextScores:
        """Text scores of all the known items for each request's shopper, behaviour left aside.

        Raises:
            RequestError: an item is unknown, or a request has a query: the scores compare titles.
        """
        rows = self._reader.rows(item_ids)
        if len(rows) != len(item_ids):
            raise RequestError("item_ids", "expected known, distinct items")
        if any(request.query for request in requests):
            raise RequestError("query", "text scores compare titles; expected requests without one")
        candidates = given([rows] * len(requests), None)
        shoppers = self._reader.shoppers(requests)
        zero_shot, fine_tuned = self._point.text_scores(shoppers, candidates)
        shape = (len(requests), len(rows))
        asked = np.argsort(np.argsort(rows))
        return TextScores(zero_shot.reshape(shape)[:, asked], fine_tuned.reshape(shape)[:, asked])

    def _answers(
        self, batch: Sequence[Asked], ranking: Ranking, compose: Compose
    ) -> list[RankedList]:
        pages = ranked_pages(ranking, self._contents.calibration, self._catalogue.item_ids, compose)
        answers = []
        for request, page in zip(batch, pages, strict=True):
            items = page.explained(ranking.rankers) if request.explain else page.items
            degraded = self._degraded(request) + ranking.degraded
            answers.append(RankedList(items, self._version, degraded, page.candidates))
        return answers

    def _degraded(self, request: RecommendRequest | RankRequest) -> tuple[str, ...]:
        return (STALE_BUNDLE,) if self._clock.is_late(request.as_of) else ()
