"""Ranking in stages: a quick ranker without the cross-encoder, the cross-encoder, the final ranker.

With time enough the final ranker orders all candidates at once. With less, the quick ranker orders
them, the cross-encoder reads the most promising in chunks for as long as the time allows, and the
final ranker orders what was read; the others follow in the first order. Where nothing can be read,
the ranker without the cross-encoder orders all, by all of its trees if there is time for them.

What fails is gone without, one stage at a time: where the cross-encoder or the final ranker does,
the ranker without the cross-encoder orders all; where that does, the order in which sources found
the candidates stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.interactions import Candidates
from recsys.ranker import RankerTier, TieredRanker, TierScores
from recsys.recommender.deadline import Deadline, StepTimes
from recsys.recommender.point_in_time import PointInTime, ScoredCandidates, Shoppers
from recsys.recommender.requests import Tier
from recsys.recommender.similar_items import FUSION_CONSTANT
from recsys.recommender.watching import unless_it_fails
from recsys.retrieval import RetrievalQueries

PARTLY_READ: Final = "cross_encoder_partial"
NOT_READ: Final = "cross_encoder_skipped"
PARTLY_RANKED: Final = "final_ranker_partial"
READ_FAILED: Final = "cross_encoder_failed"
RANKER_FAILED: Final = "ranker_failed"
CHUNK: Final = 25
MARGIN: Final = 1.3
"""How much longer than on average a step may take: it is not begun where less time is left."""

QUICK_ROUNDS: Final = 60
"""Trees of each member that the quick ranker has."""

OVERHEADS: Final = {"features": 1_000, "read": 15, "rank": 25, "rank quickly": 40}
"""In candidates, see `StepTimes`: from lists of 5 to 1,000 of them."""

_GAP: Final = 1e-6

Unranked = tuple[Shoppers, RetrievalQueries, Candidates]
"""Requests with their candidates, before anything is known of these."""


@dataclass(frozen=True)
class Ranking:
    """Scored candidates of n requests with what orders them.

    Attributes:
        scored: m candidates with features.
        score: float64 (m,), higher is better within a request.
        first_stage: bool (m,), the score is the first ranker's, which knows no cross-encoder.
        finalist: bool (m,), see `TierScores`.
        lowered: float64 (m,), what was added to the rankers' own score, so that candidates that
            were not read follow those that were, and others the finalists.
        rankers: whose scores they are, by tier; empty where none gave any.
        degraded: what was skipped.
        without_ranker: the tier of the items where no ranker scored any.
    """

    scored: ScoredCandidates
    score: NDArray[np.float64]
    first_stage: NDArray[np.bool_]
    finalist: NDArray[np.bool_]
    lowered: NDArray[np.float64]
    rankers: Mapping[Tier, TieredRanker]
    degraded: tuple[str, ...] = ()
    without_ranker: Tier = Tier.RETRIEVAL

    @classmethod
    def by(cls, ranker: TieredRanker, scored: ScoredCandidates) -> Self:
        """All candidates by one tier.

        Raises:
            ModelError: a feature that the ranker was fitted on is not there.
        """
        found = _predicted(ranker, scored)
        nobody = np.zeros(len(found.score), np.bool_)
        rankers = {Tier.RANKER: ranker}
        return cls(scored, found.score, nobody, found.finalist, found.lowered, rankers)

    @classmethod
    def without_cross_encoder(cls, ranker: TieredRanker, scored: ScoredCandidates) -> Self:
        """All candidates by a tier that does not know the cross-encoder, as nothing was read."""
        found = _predicted(ranker, scored)
        everybody = np.ones(len(found.score), np.bool_)
        rankers = {Tier.RANKER_WITHOUT_CROSS_ENCODER: ranker}
        return cls(
            scored, found.score, everybody, found.finalist, found.lowered, rankers, (NOT_READ,)
        )

    @classmethod
    def as_found(cls, scored: ScoredCandidates) -> Self:
        """All candidates by their ranks in the sources' lists: reciprocal rank fusion."""
        ranks = scored.candidates.source_ranks
        score = np.where(ranks < 0, 0.0, 1.0 / (FUSION_CONSTANT + 1 + ranks)).sum(axis=1)
        return cls.by_scores(scored, score, Tier.RETRIEVAL)

    @classmethod
    def by_scores(cls, scored: ScoredCandidates, score: NDArray[np.float64], tier: Tier) -> Self:
        """All candidates by scores, float64 (m,), that are no ranker's."""
        nobody = np.zeros(len(score), np.bool_)
        nothing = np.zeros(len(score))
        return cls(scored, score, nobody, nobody, nothing, {}, without_ranker=tier)


class Cascade:
    """Ranks the candidates of one request within the time that is left.

    Args:
        rankers: by tier.
        point: what scores candidates.
        nearest: candidates of a request that the cross-encoder reads at most.
        times: what the steps have been taking; learns on.
    """

    def __init__(
        self,
        rankers: Mapping[RankerTier, TieredRanker],
        point: PointInTime,
        nearest: int,
        times: StepTimes,
    ) -> None:
        self._rankers = rankers
        self._final = rankers[RankerTier.FULL]
        self._first = rankers[RankerTier.BI_ENCODER]
        self._quick = self._first.cut_to(QUICK_ROUNDS)
        self._point = point
        self._nearest = nearest
        self._times = times

    def least(self, candidates: int | None) -> dict[str, int]:
        """The steps that no ranking does without; None for as many candidates as are usual."""
        rows = self._times.usual("features") if candidates is None else candidates
        return {"features": rows, "rank quickly": rows}

    def ranked(self, asked: Unranked, deadline: Deadline, *, nearest_only: bool) -> Ranking:
        """The candidates of one request, ranked as well as the time allows.

        With `nearest_only` the cross-encoder reads the nearest candidates, else it reads all.

        Raises:
            DeadlineError: there is not even time for the quick ranker.
        """
        rows = len(asked[2].item)
        self._times.require(deadline, self.least(rows))
        with self._times.measured("features", rows, deadline):
            scored = self._point.unread(*asked)
        wanted = scored.nearest(self._nearest) if nearest_only else np.ones(rows, np.bool_)
        new = self._point.not_remembered(scored, wanted)
        if not self._fits(scored, new, rows, deadline):
            return self._in_chunks(scored, wanted, new, deadline)
        read = self._read(scored, wanted, new, deadline)
        if read is None:
            return self._lower(scored, deadline, READ_FAILED)
        found = unless_it_fails(
            deadline.watcher, RANKER_FAILED, lambda: self._by_final(read, deadline)
        )
        return found or self._lower(read, deadline, RANKER_FAILED)

    def by_tier(self, tier: RankerTier, asked: Unranked, deadline: Deadline) -> Ranking:
        """The candidates of one request by a ranker that does not know the cross-encoder, as asked.

        Raises:
            DeadlineError: there is no time for it.
        """
        scored = self._unread(asked, deadline)

        def by_own() -> Ranking:
            with self._times.measured(f"rank by {tier}", len(asked[2].item), deadline):
                return Ranking.without_cross_encoder(self._rankers[tier], scored)

        found = unless_it_fails(deadline.watcher, RANKER_FAILED, by_own)
        if found is not None:
            return replace(found, degraded=())
        return replace(Ranking.as_found(scored), degraded=(RANKER_FAILED,))

    def by_popularity(
        self, popularity: NDArray[np.float64], asked: Unranked, deadline: Deadline
    ) -> Ranking:
        """The candidates of one request by what is known of items, float64 (items,).

        Raises:
            DeadlineError: there is no time for it.
        """
        scored = self._unread(asked, deadline)
        return Ranking.by_scores(scored, popularity[asked[2].item], Tier.POPULARITY)

    def _unread(self, asked: Unranked, deadline: Deadline) -> ScoredCandidates:
        rows = len(asked[2].item)
        self._times.require(deadline, {"features": rows})
        with self._times.measured("features", rows, deadline):
            return self._point.unread(*asked)

    def rehearse(self, asked: Unranked, deadline: Deadline) -> None:
        """Take all steps of a call in a hurry with time for them, to learn how long they are."""
        scored = self._point.unread(*asked)
        wanted = scored.nearest(self._nearest)
        new = self._point.not_remembered(scored, wanted)
        self._in_chunks(scored, wanted, new, deadline)

    def _fits(
        self, scored: ScoredCandidates, new: NDArray[np.bool_], ranked: int, deadline: Deadline
    ) -> bool:
        """Whether there is time to read the candidates `new` (m,), then to rank so many."""
        steps = self._reading(scored, new, ranked)
        return deadline.remaining >= MARGIN * self._times.expected(steps)

    def _reading(
        self, scored: ScoredCandidates, new: NDArray[np.bool_], ranked: int
    ) -> dict[str, int]:
        """The steps of reading the candidates `new` (m,), then ranking so many."""
        count = int(new.sum())
        shopper = int(count > 0 and not self._point.has_read_shopper(scored))
        return {"read the shopper": shopper, "read": count, "rank": ranked}

    def _read(
        self,
        scored: ScoredCandidates,
        which: NDArray[np.bool_],
        new: NDArray[np.bool_],
        deadline: Deadline,
    ) -> ScoredCandidates | None:
        """After the cross-encoder has read `which` (m,), or None where that fails.

        `new` (m,) is what takes time of it.
        """
        count = int(new.sum())

        def read() -> ScoredCandidates:
            if count and not self._point.has_read_shopper(scored):
                with self._times.measured("read the shopper", 1, deadline):
                    self._point.read_shopper(scored)
            with self._times.measured("read", count, deadline):
                return self._point.read(scored, which, deadline.require_wanted)

        return unless_it_fails(deadline.watcher, READ_FAILED, read)

    def _by_final(self, scored: ScoredCandidates, deadline: Deadline) -> Ranking:
        with self._times.measured("rank", len(scored.candidates.item), deadline):
            return Ranking.by(self._final, scored)

    def _lower(self, scored: ScoredCandidates, deadline: Deadline, loss: str) -> Ranking:
        """By the ranker without the cross-encoder, or as found where that fails, too."""

        def first() -> Ranking:
            with self._times.measured("rank", len(scored.candidates.item), deadline):
                return Ranking.without_cross_encoder(self._first, scored)

        found = unless_it_fails(deadline.watcher, RANKER_FAILED, first)
        if found is not None:
            return replace(found, degraded=(loss,))
        return replace(Ranking.as_found(scored), degraded=tuple(sorted({loss, RANKER_FAILED})))

    def _in_chunks(
        self,
        scored: ScoredCandidates,
        wanted: NDArray[np.bool_],
        new: NDArray[np.bool_],
        deadline: Deadline,
    ) -> Ranking:
        """Read what is `wanted` (m,) chunk by chunk; `new` (m,) is what takes time of it."""
        rows = len(wanted)
        self._times.require(deadline, {"rank quickly": rows})
        first = unless_it_fails(
            deadline.watcher, RANKER_FAILED, lambda: self._quickly(scored, deadline)
        )
        if first is None:
            return self._lower(scored, deadline, RANKER_FAILED)
        promising = np.flatnonzero(wanted)
        promising = promising[np.argsort(-first.score[promising], kind="stable")]
        read = np.zeros(rows, np.bool_)
        for start in range(0, len(promising), CHUNK):
            now = np.zeros(rows, np.bool_)
            now[promising[start : start + CHUNK]] = True
            ranked = int(read.sum() + now.sum())
            if not self._fits(scored, new & now, ranked, deadline):
                if start == 0:
                    steps = self._reading(scored, new & now, ranked)
                    self._times.note_left_out(steps, deadline.remaining / MARGIN)
                break
            after = self._read(scored, now, new & now, deadline)
            if after is None:
                return self._lower(scored, deadline, READ_FAILED)
            scored, read = after, read | now
        found = unless_it_fails(
            deadline.watcher,
            RANKER_FAILED,
            lambda: self._finished(first, scored, wanted, read, deadline),
        )
        return found or replace(first, degraded=(RANKER_FAILED,))

    def _quickly(self, scored: ScoredCandidates, deadline: Deadline) -> Ranking:
        with self._times.measured("rank quickly", len(scored.candidates.item), deadline):
            return Ranking.without_cross_encoder(self._quick, scored)

    def _finished(
        self,
        first: Ranking,
        scored: ScoredCandidates,
        wanted: NDArray[np.bool_],
        read: NDArray[np.bool_],
        deadline: Deadline,
    ) -> Ranking:
        """The best ranking of what was `read` (m,) of the `wanted` that there is time for."""
        has_time = deadline.remaining >= MARGIN * self._times.expected({"rank": len(read)})
        if not read.any():
            if not has_time:
                return first
            with self._times.measured("rank", len(read), deadline):
                return Ranking.without_cross_encoder(self._first, scored)
        whole = np.array_equal(read, wanted)
        if not (whole and has_time):
            return self._joined(first, scored, read, PARTLY_RANKED if whole else PARTLY_READ)
        return self._by_final(scored, deadline)

    def _joined(
        self, first: Ranking, scored: ScoredCandidates, read: NDArray[np.bool_], degraded: str
    ) -> Ranking:
        """What was read by the final ranker, above the others by the first one."""
        score, lowered, finalist = first.score.copy(), first.lowered.copy(), first.finalist.copy()
        found = _predicted(self._final, scored, read)
        score[read], lowered[read], finalist[read] = found.score, found.lowered, found.finalist
        if not read.all():
            lower = min(found.score.min() - first.score[~read].max() - _GAP, 0.0)
            score[~read] += lower
            lowered[~read] += lower
        rankers = {**first.rankers, Tier.RANKER: self._final}
        return Ranking(scored, score, ~read, finalist, lowered, rankers, (degraded,))


def _predicted(
    ranker: TieredRanker, scored: ScoredCandidates, which: NDArray[np.bool_] | None = None
) -> TierScores:
    """Scores, of all or `which` (bool (m,)), by as many threads as torch has in this call."""
    features, request = scored.features.seeing(ranker.names).values, scored.candidates.request
    if which is not None:
        features, request = features[which], request[which]
    return ranker.rank(features, request, torch.get_num_threads())
