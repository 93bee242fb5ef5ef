"""Tastes: for each shopper a logistic regression over texts, drawn towards what all like.

A generalised linear mixed model (Zhang et al., "GLMix: Generalized Linear Mixed Models for
Large-Scale Response Prediction", 2016): the weights of a shopper have a normal prior that all
shoppers share, and what the shopper did moves them as far as it goes. It learns from what was
passed over as well as from what was taken, and scores items that nobody has seen yet like others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.special import expit

from recsys.errors import ModelError
from recsys.interactions import DAY_US, Candidates, InteractionLog, ItemLists
from recsys.retrieval.evidence import BACKGROUND_SHARE, Evidence, EvidenceReader
from recsys.retrieval.neighbours import best_cells
from recsys.retrieval.queries import RetrievalQueries
from recsys.retrieval.text_space import TextSpace

START_VARIANCE: Final = 0.33
"""Variance of a typical item's affinity that fitting the prior starts from, in squared logits."""

START_INTERCEPT_VARIANCE: Final = 0.3
FIT_ROUNDS: Final = 8
NEWTON_STEPS: Final = 3
SMALLEST_CURVATURE: Final = 1e-4
CHUNK: Final = 100_000
CELLS_PER_CHUNK: Final = 2_000_000

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TastePrior:
    """Normal distribution of the shoppers' weights; the last one is the intercept of impressions.

    Attributes:
        mean: float32 (d + 1,).
        covariance: float32 (d + 1, d + 1), positive definite.
    """

    mean: Floats
    covariance: Floats

    @classmethod
    def start(cls, dimensions: int, click_rate: float) -> Self:
        """Before anything is known but how often the average impression is clicked."""
        odds = min(max(click_rate, 1e-3), 0.5)
        mean = np.zeros(dimensions + 1, np.float32)
        mean[-1] = np.log(odds / (1 - odds))
        variance = np.full(dimensions + 1, START_VARIANCE, np.float32)
        variance[-1] = START_INTERCEPT_VARIANCE
        return cls(mean, np.diag(variance))

    @classmethod
    def fit(cls, space: TextSpace, evidence: Evidence) -> Self:
        """Expectation maximisation over shoppers, each posterior by Laplace's approximation.

        Args:
            space: where the texts lie.
            evidence: of many shoppers; those without any are left out.
        """
        prior = cls.start(space.dimensions, evidence.click_rate)
        useful = np.flatnonzero(np.diff(evidence.offsets))
        if not len(useful):
            return prior
        for _ in range(FIT_ROUNDS):
            taste = Taste(space, prior)
            found = [taste.posterior(evidence, int(i)) for i in useful]
            weights = np.array([weight for weight, _ in found], np.float64)
            mean = weights.mean(axis=0)
            around = weights - mean
            spread = sum(linalg.inv(curvature).astype(np.float64) for _, curvature in found)
            covariance = (spread + around.T @ around) / len(useful)
            prior = cls(mean.astype(np.float32), covariance.astype(np.float32))
        return prior

    @cached_property
    def precision(self) -> Floats:
        """float32 (d + 1, d + 1): inverse of the covariance."""
        return np.asarray(linalg.inv(self.covariance.astype(np.float64)), np.float32)

    def arrays(self, prefix: str) -> dict[str, Floats]:
        """For `load`, under names that begin with `prefix`."""
        return {f"{prefix}mean": self.mean, f"{prefix}covariance": self.covariance}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> Self:
        """Read what `arrays` gave.

        Raises:
            ModelError: the shapes don't fit each other.
        """
        mean, covariance = (arrays[prefix + name] for name in ("mean", "covariance"))
        if covariance.shape != (len(mean), len(mean)):
            raise ModelError(
                f"a taste prior of {len(mean)} means has a covariance of {covariance.shape}; "
                "train again"
            )
        return cls(mean.astype(np.float32), covariance.astype(np.float32))


@dataclass(frozen=True)
class Taste:
    """What shoppers like among texts: weights from evidence.

    Attributes:
        space: where items and queries lie.
        prior: of a shopper's weights.
    """

    space: TextSpace
    prior: TastePrior

    def weights(self, evidence: Evidence) -> Floats:
        """float32 (n, d): the most probable weights of each request's shopper.

        Those of a shopper without evidence are the prior's mean.
        """
        found = np.tile(self.prior.mean, (evidence.count, 1))
        for request in np.flatnonzero(np.diff(evidence.offsets)):
            found[request] = self.posterior(evidence, int(request))[0]
        return found[:, :-1]

    def posterior(self, evidence: Evidence, request: int) -> tuple[Floats, Floats]:
        """Mode float32 (d + 1,) and curvature there, by Newton steps from the prior's mean."""
        table, label, offset, weight = self._known(evidence, request)
        prior, precision = self.prior.mean, self.prior.precision
        mode, curvature = prior, precision
        for _ in range(NEWTON_STEPS):
            chance = expit(table @ mode + offset)
            bend = np.maximum(chance * (1 - chance), SMALLEST_CURVATURE) * weight
            curvature = (table.T * bend) @ table + precision
            slope = table.T @ (weight * (label - chance)) - precision @ (mode - prior)
            mode = mode + _solved(curvature, slope)
        return mode, curvature

    def _known(self, evidence: Evidence, request: int) -> tuple[Floats, Floats, Floats, Floats]:
        """Coordinates (r, d + 1), labels, offsets and weights of what is known of a shopper."""
        own = slice(evidence.offsets[request], evidence.offsets[request + 1])
        shown = evidence.shown[own]
        against = evidence.background if not shown.all() else evidence.background[:0]
        share = BACKGROUND_SHARE * (~shown).sum() / max(len(against), 1)
        rows = np.concatenate([evidence.text[own], against])
        table = np.zeros((len(rows), self.space.dimensions + 1), np.float32)
        table[:, :-1] = self.space.of(rows)
        table[: len(shown), -1] = shown

        def extended(values: Floats, value: float) -> Floats:
            return np.concatenate([values, np.full(len(against), value, np.float32)])

        return (
            table,
            extended(evidence.label[own], 0.0),
            extended(evidence.offset[own], evidence.odds),
            extended(np.ones(len(shown), np.float32), float(share)),
        )


@dataclass(frozen=True)
class Tastes:
    """Tastes in several spaces at one point in time; also a source of candidates.

    Attributes:
        reader: of the evidence.
        spaces: by name.
        popularity: float32 (items,), log of 1 + purchases lately (all interest, without purchases).
    """

    reader: EvidenceReader
    spaces: Mapping[str, Taste]
    popularity: Floats
    name: str = "taste"

    @classmethod
    def build(cls, log: InteractionLog, spaces: Mapping[str, Taste], days: float) -> Self:
        """From a log that holds only what is known; popularity counts its last `days`."""
        recent = log.taken[log.time[log.taken] > log.time.max(initial=0) - int(days * DAY_US)]
        counts = np.bincount(log.item[recent], minlength=len(log.item_ids))
        return cls(EvidenceReader.build(log), spaces, np.log1p(counts).astype(np.float32))

    def weights(self, queries: RetrievalQueries) -> Floats:
        """float32 (n, d): weights of the shoppers in all spaces, one space after the other."""
        evidence = self.reader.read(queries)
        return np.concatenate([taste.weights(evidence) for taste in self.spaces.values()], axis=1)

    def scores(self, queries: RetrievalQueries, candidates: Candidates) -> dict[str, Floats]:
        """Affinity of each candidate's text to its shopper's taste: float32 (m,) for each space."""
        weights, request = self._split(queries), candidates.request
        found = {}
        for (name, taste), own in zip(self.spaces.items(), weights, strict=True):
            found[name] = np.empty(len(request), np.float32)
            for first in range(0, len(request), CHUNK):
                part = slice(first, first + CHUNK)
                points = taste.space.item_points[candidates.item[part]]
                np.einsum("ij,ij->i", own[request[part]], points, out=found[name][part])
        return found

    def retrieve(self, queries: RetrievalQueries, k: int) -> ItemLists:
        """The `k` items of highest affinity and popularity that the shopper has no event with.

        The sum of the affinities in all spaces and of the log of what was bought lately: both are
        log odds. Ties by row. A shopper without evidence has everybody's taste.
        """
        requests, items = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        step = max(1, CELLS_PER_CHUNK // max(1, len(self.popularity)))
        for first in range(0, queries.count, step):
            asked = queries.rows(first, min(first + step, queries.count))
            table = self._table(asked)
            if 0 < k < table.shape[1]:
                table[table < np.partition(table, -k, axis=1)[:, -k, None]] = 0
            row, item = best_cells(table, k)
            requests.append(row + first)
            items.append(item)
        return ItemLists.grouped(np.concatenate(requests), np.concatenate(items), queries.count)

    def _table(self, queries: RetrievalQueries) -> Floats:
        """float32 (n, items), above 0; 0 for items that can't be brought."""
        total = np.tile(self.popularity, (queries.count, 1))
        for taste, weights in zip(self.spaces.values(), self._split(queries), strict=True):
            for request, own in enumerate(weights):  # a product of matrices would depend on n
                total[request] += taste.space.item_points @ own
        total -= total.min(axis=1, keepdims=True, initial=np.inf) - 1
        total[queries.visible.request, queries.visible.item] = 0
        return total

    def _split(self, queries: RetrievalQueries) -> list[Floats]:
        weights = self.weights(queries) if queries.tastes is None else queries.tastes
        sizes = [taste.space.dimensions for taste in self.spaces.values()]
        return np.split(weights, np.cumsum(sizes)[:-1], axis=1)


def _solved(curvature: Floats, slope: Floats) -> Floats:
    """What the positive definite (d, d) maps to (d,).

    LAPACK's own routine: `linalg.solve` holds Python's global lock and takes three times as long.
    """
    _, step, wrong = linalg.lapack.sposv(curvature, slope)
    if wrong:
        raise linalg.LinAlgError("the curvature of a taste is not positive definite")
    return np.asarray(step, np.float32)
