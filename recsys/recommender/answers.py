"""From scored candidates to pages of ranked items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.interactions import Candidates
from recsys.page import Composition
from recsys.ranker import Ranker, RankerTier
from recsys.recommender.point_in_time import ScoredCandidates
from recsys.recommender.requests import Contribution, RankedItem, RankedList, Tier
from recsys.text import Calibration

Compose = Callable[[int, NDArray[np.int32]], Composition]
"""Given a request's number and its candidates' item rows, best first, what to make of them."""


@dataclass(frozen=True)
class Page:
    """The items that answer one request.

    Attributes:
        items: in the order of the answer.
        values: float32 (items, f), their features.
    """

    items: tuple[RankedItem, ...]
    values: NDArray[np.float32]

    def explained(self, ranker: Ranker) -> tuple[RankedItem, ...]:
        """The items with contributions by feature group, largest magnitude first."""
        groups = ranker.explain(self.values)
        explained = []
        for place, item in enumerate(self.items):
            parts = [Contribution(name, float(value[place])) for name, value in groups.items()]
            parts.sort(key=lambda part: (-abs(part.value), part.group))
            explained.append(replace(item, explanation=tuple(parts)))
        return tuple(explained)


@dataclass(frozen=True)
class TieredAnswers:
    """What the rankers of several tiers make of the same candidates of n requests.

    Attributes:
        answers: n lists of each tier.
        candidates: m candidates, rows of the catalogue.
        probability: float64 (m,), of a purchase, by the cross-encoder; NaN where it was not run.
    """

    answers: Mapping[RankerTier, list[RankedList]]
    candidates: Candidates
    probability: NDArray[np.float64]


def as_ranked(_: int, ranked: NDArray[np.int32]) -> Composition:
    """All candidates, best first."""
    return Composition.first(len(ranked), ranked)


def ranked_pages(
    scored: ScoredCandidates,
    models: tuple[Ranker, Calibration],
    item_ids: Sequence[str],
    compose: Compose,
) -> Iterator[Page]:
    """Rank all requests with one matrix through the ranker, then make a page of each ranking.

    A ranking is by descending score, ties by item id.

    Raises:
        ModelError: a feature that the ranker was fitted on is not there.
    """
    ranker, calibration = models
    features = scored.features.seeing(ranker.names)
    score = ranker.predict(features.values)
    probability = calibration.probability(scored.cross_encoder)
    candidates = scored.candidates
    for i in range(candidates.count):
        rows = np.arange(candidates.offsets[i], candidates.offsets[i + 1])
        ranked = rows[np.lexsort((candidates.item[rows], -score[rows]))]
        composed = compose(i, candidates.item[ranked])
        page = ranked[composed.places]
        labels = [composed.labels.get(place) for place in composed.places.tolist()]
        items = (
            _item(
                candidates,
                row,
                item_ids[candidates.item[row]],
                label,
                (score[row], probability[row]),
            )
            for row, label in zip(page.tolist(), labels, strict=True)
        )
        yield Page(tuple(items), features.values[page])


def _item(
    candidates: Candidates,
    row: int,
    item_id: str,
    label: str | None,
    scores: tuple[float, float],
) -> RankedItem:
    score, probability = map(float, scores)
    ranks = candidates.source_ranks[row]
    brought = {name for name, rank in zip(candidates.source_names, ranks, strict=True) if rank >= 0}
    return RankedItem(
        item_id=item_id,
        score=score,
        tier=Tier.RANKER,
        cross_encoder_score=None if np.isnan(probability) else probability,
        sources=tuple(sorted(brought | ({label} if label else set()))),
    )
