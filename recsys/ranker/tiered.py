"""A tier's ranker together with those of the cheaper tiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from recsys.ranker.boosting import request_ndcg
from recsys.ranker.fit_inputs import FitInputs
from recsys.ranker.ranker import Ranker
from recsys.ranker.tiers import RankerTier

FINALISTS: Final = 100
"""Best candidates of a request, by the tier's own ranker, that the cheaper ones score, too."""

_GAP: Final = 1e-6

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class TierScores:
    """Scores of m candidates.

    Attributes:
        score: float64 (m,), higher is better within a request.
        finalist: bool (m,), all rankers scored it; others follow in the order of the tier's own.
        lowered: float64 (m,), what was added to the rankers' scores for that.
    """

    score: Floats
    finalist: Mask
    lowered: Floats


class TieredRanker:
    """The sum of a ranker and those that see less: their errors differ, so the sum errs less.

    All candidates are scored by the tier's own ranker; the `FINALISTS` best of each request by the
    others, too.

    Args:
        own: sees the most features.
        cheaper: each sees some of those.

    Attributes:
        names: the feature columns, in the order of the matrix.
        rounds: trees of each member of the tier's own ranker, by objective.
    """

    def __init__(self, own: Ranker, cheaper: Sequence[Ranker] = ()) -> None:
        self._own = own
        self._cheaper = tuple(cheaper)
        self.names = own.names
        self.rounds = own.rounds
        places = {name: place for place, name in enumerate(own.names)}
        self._columns = [[places[name] for name in ranker.names] for ranker in self._cheaper]

    @classmethod
    def load(cls, folder: Path, tier: RankerTier) -> Self:
        """Read a tier of a folder that holds each tier's own ranker in a folder of its name.

        Raises:
            ModelError: as `Ranker.load` does.
        """
        *cheaper, own = (Ranker.load(folder / each) for each in RankerTier.up_to(tier))
        return cls(own, cheaper)

    def save(self, folder: Path) -> None:
        """Write the tier's own ranker; see `Ranker.save`."""
        self._own.save(folder)

    def cut_to(self, rounds: int) -> Self:
        """A quicker one: the first trees of the tier's own ranker alone, see `Ranker.cut_to`."""
        return type(self)(self._own.cut_to(rounds))

    def rank(
        self, values: NDArray[np.float32], request: NDArray[np.int64], threads: int = 1
    ) -> TierScores:
        """Score the candidates of n requests; a request's scores depend on that request alone.

        Args:
            values: float32 (m, f), columns as in `names`; NaN where unknown.
            request: int64 (m,), request of each candidate.
            threads: to use; they don't change the scores.

        Raises:
            ModelError: another number of columns.
        """
        score = self._own.predict(values, threads)
        finalist = _best(score, request, FINALISTS if self._cheaper else len(score))
        followers = ~finalist
        highest = _by_request(np.maximum, score, request, followers)
        finals = values[finalist]
        for ranker, columns in self._with_columns():
            score[finalist] += ranker.predict(finals[:, columns], threads)
        lowered = np.zeros(len(score))
        if followers.any():
            above = _by_request(np.minimum, score, request, finalist) - highest - _GAP
            lowered[followers] = np.minimum(above[request[followers]], 0.0)
        return TierScores(score + lowered, finalist, lowered)

    def explain(self, values: NDArray[np.float32], finalist: Mask) -> dict[str, Floats]:
        """Contributions by group, see `Ranker.explain`; with `lowered`, they sum to the score.

        Args:
            values: float32 (m, f), columns as in `names`.
            finalist: bool (m,), as in the scores.
        """
        total = self._own.explain(values)
        for ranker, columns in self._with_columns():
            for group, value in ranker.explain(values[finalist][:, columns]).items():
                total[group][finalist] += value
        return total

    def judged(self, judge: FitInputs) -> Floats:
        """NDCG@10 of each request, float64 (n,), by what this tier sees of the candidates.

        Raises:
            ModelError: the inputs lack one of its features.
        """
        return request_ndcg(self.rank(judge.seeing(self.names).values, judge.request).score, judge)

    def importance(self) -> dict[str, float]:
        """Share of the gain of all splits that is on each feature, largest first."""
        shares = dict.fromkeys(self.names, 0.0)
        for ranker in (self._own, *self._cheaper):
            for name, share in ranker.importance().items():
                shares[name] += share / (1 + len(self._cheaper))
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    @property
    def groups(self) -> dict[str, str]:
        """Group of each column, for explanations."""
        return self._own.groups

    def _with_columns(self) -> Iterator[tuple[Ranker, list[int]]]:
        return zip(self._cheaper, self._columns, strict=True)


def load_tiers(folder: Path) -> dict[RankerTier, TieredRanker]:
    """All tiers of a folder, see `TieredRanker.load`; each file is read once.

    Raises:
        ModelError: as `Ranker.load` does.
    """
    own = {tier: Ranker.load(folder / tier) for tier in RankerTier}
    return {
        tier: TieredRanker(own[tier], [own[each] for each in RankerTier.up_to(tier)[:-1]])
        for tier in RankerTier
    }


def _best(score: Floats, request: NDArray[np.int64], limit: int) -> Mask:
    """Bool (m,): the `limit` highest scores of each request; ties in the order given."""
    order = np.lexsort((-score, request))
    ordered = request[order]
    place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    best = np.empty(len(order), np.bool_)
    best[order] = place < limit
    return best


def _by_request(
    extreme: np.ufunc, score: Floats, request: NDArray[np.int64], which: Mask
) -> Floats:
    """The smallest or largest score `which` each request has; infinite where it has none."""
    nothing = np.inf if extreme is np.minimum else -np.inf
    found = np.full(int(request.max(initial=-1)) + 1, nothing)
    extreme.at(found, request[which], score[which])
    return found
