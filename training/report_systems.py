"""The ranked lists that an evaluation compares: baselines, peers and the bundle's own answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.evaluation import NextPeriod, id_hashes, popularity, tie_keys, top_k, truth_kind
from recsys.interactions import Candidates, EventKind, InteractionLog, as_datetime
from recsys.ranker import RankerTier
from recsys.recommender import (
    ItemFilter,
    RankedList,
    RankRequest,
    RecommendRequest,
    TieredAnswers,
)
from training.peers import Scorer, bm25_knn, event_matrix, purchase_matrix
from training.report import LIST_LENGTH, CalibrationReport
from training.report_calibration import calibration_report

Advance = Callable[[int], None]
"""Told how many customers are done."""

TIERS: Final = {
    RankerTier.WITHOUT_TEXT: "without_text",
    RankerTier.BI_ENCODER: "bi_encoder",
    RankerTier.FULL: "system",
}
"""A bundle's rankers by what they know, and the systems they are in a report."""

_CHUNK_SCORES: Final = 2_000_000


class TextScores(Protocol):
    """Text scores of n requests by m items, higher is better."""

    @property
    def zero_shot(self) -> NDArray[np.float32]:
        """(n, m), similarity by the untuned encoder."""
        ...

    @property
    def fine_tuned(self) -> NDArray[np.float32]:
        """(n, m), logits of the fine-tuned cross-encoder."""
        ...


class EvaluatedRecommender(Protocol):
    """What an evaluation asks of a loaded bundle."""

    @property
    def version(self) -> str:
        """Version of the bundle."""
        ...

    @property
    def horizon(self) -> datetime:
        """Events before it are in the bundle."""
        ...

    @property
    def catalogue(self) -> pl.DataFrame:
        """Its items in the order of the candidates' rows; column `item_id`."""
        ...

    def recommend_by_tier(
        self, requests: Sequence[RecommendRequest], advance: Advance | None
    ) -> TieredAnswers:
        """The answers of each ranker of `TIERS`; those of `full` are what `recommend` gives."""
        ...

    def candidates_many(
        self, requests: Sequence[RecommendRequest], advance: Advance | None
    ) -> Candidates:
        """What is ranked for each request, as rows of `catalogue`, and what brought it."""
        ...

    def rank_many(
        self, requests: Sequence[RankRequest], advance: Advance | None
    ) -> list[RankedList]:
        """The answers `rank` gives, in the order of the requests."""
        ...

    def text_scores(
        self, requests: Sequence[RecommendRequest], item_ids: Sequence[str]
    ) -> TextScores:
        """Text scores of all the items for each request's shopper."""
        ...


@dataclass(frozen=True)
class Shop:
    """A dataset's log and its catalogue, looked at from the cut.

    Attributes:
        log: the whole log.
        seen: bool (items,), the item is in any event before the cut, impressions included.
        start: the cut in microseconds.
        seed: seed of the tie-breaking hashes.
    """

    log: InteractionLog
    seen: NDArray[np.bool_]
    start: int
    seed: int

    @cached_property
    def item_hashes(self) -> NDArray[np.uint64]:
        """uint64 (items,)."""
        return id_hashes(self.log.item_ids, self.seed)

    @cached_property
    def user_hashes(self) -> NDArray[np.uint64]:
        """uint64 (users,)."""
        return id_hashes(self.log.user_ids, self.seed)

    @property
    def as_of(self) -> datetime:
        """The cut."""
        return as_datetime(self.start)

    @cached_property
    def cold_items(self) -> NDArray[np.int64]:
        """int64 (c,), rows of the items not seen, in the order of their hashes."""
        rows = np.flatnonzero(~self.seen)
        return rows[np.argsort(self.item_hashes[rows])]

    def best(
        self, users: NDArray[np.int64], items: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> NDArray[np.int32]:
        """Item rows int32 (n, LIST_LENGTH) by scores (n, m) of `items` (m,), ties by hash."""
        ties = tie_keys(self.user_hashes[users], self.item_hashes[items])
        columns = top_k(scores, ties, LIST_LENGTH)
        return np.where(columns >= 0, items[columns], -1).astype(np.int32)


def scorers(shop: Shop, threads: int, *, peers: bool) -> dict[str, Scorer]:
    """The systems that score the whole catalogue, by name; without `peers` popularity alone."""
    kind = truth_kind(shop.log)
    counts = popularity(shop.log, shop.start, kind)
    found: dict[str, Scorer] = {"popularity": lambda users: np.tile(counts, (len(users), 1))}
    if peers:
        bought = purchase_matrix(shop.log, shop.start, kind)
        touched = event_matrix(shop.log, shop.start)
        found["bm25_knn"] = bm25_knn(bought, shop.item_hashes, threads)
        found["bm25_knn_counts"] = bm25_knn(touched, shop.item_hashes, threads)
    return found


def rank_catalogue(
    shop: Shop, period: NextPeriod, scorer: Scorer, advance: Advance, *, new: bool
) -> NDArray[np.int32]:
    """Lists from the full catalogue for each customer, without owned items when `new`."""
    items = np.arange(len(shop.log.item_ids))
    lists = np.full((len(period.users), LIST_LENGTH), -1, np.int32)
    step = max(1, _CHUNK_SCORES // len(items))
    for first in range(0, len(period.users), step):
        chunk = period.take(np.arange(first, min(first + step, len(period.users))))
        scores = scorer(chunk.users)
        if new:
            scores[chunk.owned.customer, chunk.owned.item] = -np.inf
        lists[first : first + step] = shop.best(chunk.users, items, scores)
        advance(len(chunk.users))
    return lists


@dataclass
class Served:
    """Asks a bundle and keeps count of what its answers lacked.

    Attributes:
        degraded: answers by `degraded` token.
        owned: owned items that came although they were to be left out; taken off the lists.
        calibration: of the purchase probabilities of target `all`, once that is ranked; None where
            no text was scored.
    """

    shop: Shop
    recommender: EvaluatedRecommender
    degraded: Counter[str] = field(default_factory=Counter)
    owned: int = 0
    calibration: CalibrationReport | None = None

    def recommended(
        self, period: NextPeriod, advance: Advance, *, new: bool
    ) -> dict[str, NDArray[np.int32]]:
        """The lists of each of the bundle's rankers over its own candidates, by system.

        int32 (n, LIST_LENGTH) each. What answers lacked is counted for the system itself.
        """
        requests = self.requests(period, new=new)
        found = self.recommender.recommend_by_tier(requests, advance)
        answers = found.answers
        lists = {system: self._rows(answers[tier]) for tier, system in TIERS.items()}
        self._count_degraded(answers[RankerTier.FULL])
        if not new:
            self.calibration = self._calibration(found, period)
            return lists
        self.owned += int(self._owned(lists["system"], period).sum())
        return {system: self._without_owned(each, period) for system, each in lists.items()}

    def _calibration(self, found: TieredAnswers, period: NextPeriod) -> CalibrationReport | None:
        """Probabilities of the candidates that the cross-encoder read, against what was bought."""
        read = ~np.isnan(found.probability)
        if not read.any():
            return None
        customer = found.candidates.request[read]
        item = self._dataset_rows[found.candidates.item[read]]
        bought = period.truth.places(customer, item) >= 0
        return calibration_report(found.probability[read], bought, customer, self.shop.seed)

    def candidates(self, period: NextPeriod, advance: Advance) -> Candidates:
        """What the bundle ranks for each customer; items that the dataset does not have are -1."""
        found = self.recommender.candidates_many(self.requests(period, new=False), advance)
        return replace(found, item=self._dataset_rows[found.item])

    def ranked(
        self, period: NextPeriod, items: NDArray[np.int64], advance: Advance
    ) -> NDArray[np.int32]:
        """The best of the given item rows by the bundle's `rank`: int32 (n, LIST_LENGTH)."""
        ids = tuple(self.shop.log.item_ids[row] for row in items)
        requests = [
            RankRequest(item_ids=ids, user_id=user, as_of=self.shop.as_of)
            for user in self._user_ids(period)
        ]
        answers = self.recommender.rank_many(requests, advance)
        self._count_degraded(answers)
        return self._rows(answers)

    def requests(self, period: NextPeriod, *, new: bool) -> list[RecommendRequest]:
        """A request for each customer at the cut.

        With `new`, purchases are left out by the filter that shops use; where clicks are the truth,
        each customer's clicked items are excluded by id.
        """
        by_id = new and period.kind != EventKind.PURCHASE
        filters = [
            ItemFilter(
                exclude_purchased=new and not by_id,
                exclude_item_ids=self._owned_ids(period, place) if by_id else (),
            )
            for place in range(len(period.users))
        ]
        return [
            RecommendRequest(user_id=user, page_size=LIST_LENGTH, filter=one, as_of=self.shop.as_of)
            for user, one in zip(self._user_ids(period), filters, strict=True)
        ]

    @cached_property
    def _dataset_rows(self) -> NDArray[np.int32]:
        """int32 (items of the bundle,): rows in the dataset, -1 for what it does not have."""
        rows = self.shop.log.item_rows
        return np.array([rows.get(i, -1) for i in self.recommender.catalogue["item_id"]], np.int32)

    def _user_ids(self, period: NextPeriod) -> list[str]:
        return [self.shop.log.user_ids[row] for row in period.users]

    def _owned_ids(self, period: NextPeriod, place: int) -> tuple[str, ...]:
        first, last = period.owned.offsets[place : place + 2]
        return tuple(self.shop.log.item_ids[row] for row in period.owned.item[first:last])

    def _count_degraded(self, answers: Sequence[RankedList]) -> None:
        for answer in answers:
            self.degraded.update(answer.degraded)

    def _rows(self, answers: Sequence[RankedList]) -> NDArray[np.int32]:
        """Answers as item rows; an item that the dataset does not have leaves an empty place."""
        rows = self.shop.log.item_rows
        lists = np.full((len(answers), LIST_LENGTH), -1, np.int32)
        for place, answer in enumerate(answers):
            found = [rows.get(item.item_id, -1) for item in answer.items[:LIST_LENGTH]]
            lists[place, : len(found)] = found
        return lists

    def _owned(self, lists: NDArray[np.int32], period: NextPeriod) -> NDArray[np.bool_]:
        return period.owned.places(np.arange(len(lists))[:, None], lists) >= 0

    def _without_owned(self, lists: NDArray[np.int32], period: NextPeriod) -> NDArray[np.int32]:
        """Owned items taken out, the others moved up."""
        owned = self._owned(lists, period)
        order = np.argsort(owned, axis=1, kind="stable")
        return np.take_along_axis(np.where(owned, -1, lists), order, axis=1)
