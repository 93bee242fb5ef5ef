"""Ranking in stages: a ranker without the cross-encoder, the cross-encoder, the final ranker.

With time enough the final ranker orders all candidates at once. With less, the first ranker orders
them, the cross-encoder reads the most promising in chunks for as long as the time allows, and the
final ranker orders what was read; the others follow in the first ranker's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.features import FeatureMatrix
from recsys.interactions import Candidates
from recsys.ranker import Ranker, RankerTier
from recsys.recommender.deadline import Deadline, StepTimes
from recsys.recommender.point_in_time import PointInTime, ScoredCandidates, Shoppers
from recsys.retrieval import RetrievalQueries

PARTLY_READ: Final = "cross_encoder_partial"
NOT_READ: Final = "cross_encoder_skipped"
CHUNK: Final = 25
MARGIN: Final = 1.3
"""How much longer than on average a step may take: it is not begun where less time is left."""

_GAP: Final = 1e-6


@dataclass(frozen=True)
class Ranking:
    """Scored candidates of n requests with what orders them.

    Attributes:
        scored: m candidates with features.
        score: float64 (m,), higher is better within a request.
        first_stage: bool (m,), the score is the first ranker's, which knows no cross-encoder.
        lowered: float64 (m,), what was added to the ranker's own score, so that candidates that
            were not read follow those that were.
        degraded: what was skipped.
    """

    scored: ScoredCandidates
    score: NDArray[np.float64]
    first_stage: NDArray[np.bool_]
    lowered: NDArray[np.float64]
    degraded: tuple[str, ...] = ()

    @classmethod
    def by(cls, ranker: Ranker, scored: ScoredCandidates) -> Self:
        """All candidates by one ranker.

        Raises:
            ModelError: a feature that the ranker was fitted on is not there.
        """
        score = _predicted(ranker, scored.features)
        return cls(scored, score, np.zeros(len(score), np.bool_), np.zeros(len(score)))


class Cascade:
    """Ranks the candidates of one request within the time that is left.

    Args:
        rankers: by tier.
        point: what scores candidates.
        nearest: candidates of a request that the cross-encoder reads at most.
    """

    def __init__(
        self, rankers: Mapping[RankerTier, Ranker], point: PointInTime, nearest: int
    ) -> None:
        self._final = rankers[RankerTier.FULL]
        self._first = rankers[RankerTier.BI_ENCODER]
        self._point = point
        self._nearest = nearest
        self._times = StepTimes()

    def ranked(
        self,
        asked: tuple[Shoppers, RetrievalQueries, Candidates],
        deadline: Deadline,
        *,
        nearest_only: bool,
    ) -> Ranking:
        """The candidates of one request, ranked as well as the time allows.

        With `nearest_only` the cross-encoder reads the nearest candidates, else it reads all.

        Raises:
            DeadlineError: there is not even time for the first ranker.
        """
        rows = len(asked[2].item)
        self._times.require(deadline, features=rows, rank=rows)
        with self._times.measured("features", rows, deadline):
            scored = self._point.unread(*asked)
        wanted = scored.nearest(self._nearest) if nearest_only else np.ones(rows, np.bool_)
        new = self._point.not_remembered(scored, wanted)
        count = int(new.sum())
        if deadline.remaining < MARGIN * self._times.expected(read=count, rank=rows):
            return self._in_chunks(scored, wanted, new, deadline)
        with self._times.measured("read", count, deadline):
            scored = self._point.read(scored, wanted)
        with self._times.measured("rank", rows, deadline):
            return Ranking.by(self._final, scored)

    def _in_chunks(
        self,
        scored: ScoredCandidates,
        wanted: NDArray[np.bool_],
        new: NDArray[np.bool_],
        deadline: Deadline,
    ) -> Ranking:
        """Read what is `wanted` (m,) chunk by chunk; `new` (m,) is what takes time of it."""
        rows = len(wanted)
        self._times.require(deadline, rank=rows)
        with self._times.measured("rank", rows, deadline):
            first = Ranking.by(self._first, scored)
        promising = np.flatnonzero(wanted)
        promising = promising[np.argsort(-first.score[promising], kind="stable")]
        read = np.zeros(rows, np.bool_)
        for start in range(0, len(promising), CHUNK):
            chunk = promising[start : start + CHUNK]
            count = int(new[chunk].sum())
            needed = self._times.expected(read=count, rank=start + len(chunk))
            if deadline.remaining < MARGIN * needed:
                break
            now = np.zeros(rows, np.bool_)
            now[chunk] = True
            with self._times.measured("read", count, deadline):
                scored = self._point.read(scored, now)
            read |= now
        if read.sum() == wanted.sum() and deadline.remaining > self._times.expected(rank=rows):
            return Ranking.by(self._final, scored)
        return self._joined(first, scored, read)

    def _joined(self, first: Ranking, scored: ScoredCandidates, read: NDArray[np.bool_]) -> Ranking:
        """What was read by the final ranker, above the others by the first one."""
        if not read.any():
            return replace(first, first_stage=~read, degraded=(NOT_READ,))
        score, lowered = first.score.copy(), first.lowered.copy()
        score[read] = _predicted(self._final, scored.features.where(read))
        if not read.all():
            above = score[read].min() - score[~read].max()
            lowered[~read] = min(above - _GAP, 0.0)
        return Ranking(scored, score + lowered, ~read, lowered, (PARTLY_READ,))


def _predicted(ranker: Ranker, features: FeatureMatrix) -> NDArray[np.float64]:
    """Scores by as many threads as torch has in this call."""
    return ranker.predict(features.seeing(ranker.names).values, torch.get_num_threads())
