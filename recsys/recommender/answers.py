"""From scored candidates to pages of ranked items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.features import FeatureMatrix
from recsys.interactions import Candidates
from recsys.page import Composition
from recsys.ranker import BASE, RankerTier, TieredRanker
from recsys.recommender.cascade import Ranking
from recsys.recommender.requests import Contribution, RankedItem, RankedList, Tier
from recsys.text import Calibration

Compose = Callable[[int, NDArray[np.int32], NDArray[np.float64]], Composition]
"""Given a request's number and its candidates' item rows and scores, best first, what to make of
them."""


@dataclass(frozen=True)
class Page:
    """The items that answer one request.

    Attributes:
        items: in the order of the answer.
        features: one row for each.
        finalist: bool (items,), see `Ranking`.
        lowered: float64 (items,), what was added to the rankers' own score.
        candidates: how many were ranked.
    """

    items: tuple[RankedItem, ...]
    features: FeatureMatrix
    finalist: NDArray[np.bool_]
    lowered: NDArray[np.float64]
    candidates: int

    def explained(self, rankers: Mapping[Tier, TieredRanker]) -> tuple[RankedItem, ...]:
        """The items with contributions by feature group, largest magnitude first.

        Args:
            rankers: those that scored the items, by tier.
        """
        explained = list(self.items)
        for tier, ranker in rankers.items():
            places = [place for place, item in enumerate(self.items) if item.tier == tier]
            if not places:
                continue
            groups = ranker.explain(
                self.features.seeing(ranker.names).values[places], self.finalist[places]
            )
            for row, place in enumerate(places):
                values = {name: float(value[row]) for name, value in groups.items()}
                values[BASE] += float(self.lowered[place])
                parts = [Contribution(name, value) for name, value in values.items()]
                parts.sort(key=lambda part: (-abs(part.value), part.group))
                explained[place] = replace(self.items[place], explanation=tuple(parts))
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


@dataclass(frozen=True)
class TextScores:
    """Text scores of n requests by m items, higher is better.

    Attributes:
        zero_shot: float32 (n, m), best cosine to the shopper's titles by the untuned encoder.
        fine_tuned: float32 (n, m), purchase logits of the fine-tuned cross-encoder.
    """

    zero_shot: NDArray[np.float32]
    fine_tuned: NDArray[np.float32]


def as_ranked(_: int, ranked: NDArray[np.int32], __: NDArray[np.float64]) -> Composition:
    """All candidates, best first."""
    return Composition.first(len(ranked), ranked)


def ranked_pages(
    ranking: Ranking, calibration: Calibration, item_ids: Sequence[str], compose: Compose
) -> Iterator[Page]:
    """A page of each request's ranking: by descending score, ties by item id."""
    candidates, score = ranking.scored.candidates, ranking.score
    probability = calibration.probability(ranking.scored.cross_encoder)
    for i in range(candidates.count):
        rows = np.arange(candidates.offsets[i], candidates.offsets[i + 1])
        ranked = rows[np.lexsort((candidates.item[rows], -score[rows]))]
        composed = compose(i, candidates.item[ranked], score[ranked])
        page = ranked[composed.places]
        labels = [composed.labels.get(place) for place in composed.places.tolist()]
        items = [
            _item(ranking, row, item_ids[candidates.item[row]], label, float(probability[row]))
            for row, label in zip(page.tolist(), labels, strict=True)
        ]
        if composed.propensity is not None:
            chances = zip(items, composed.propensity.tolist(), strict=True)
            items = [replace(item, propensity=chance) for item, chance in chances]
        features = ranking.scored.features
        rows_of_page = replace(features, values=features.values[page])
        final, lowered = ranking.finalist[page], ranking.lowered[page]
        yield Page(tuple(items), rows_of_page, final, lowered, len(rows))


def with_unscored(
    answer: RankedList, item_ids: Sequence[str], row_of: Callable[[str], int | None]
) -> RankedList:
    """A ranking of the caller's own items with those that it leaves out behind it, flagged.

    Args:
        answer: the items that can be had.
        item_ids: all that were asked for.
        row_of: an item's row in the catalogue, None where it has none.
    """
    scored = {item.item_id for item in answer.items}
    left = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in scored]
    known = [row_of(item_id) is not None for item_id in left]
    flagged = [
        RankedItem(item_id, 0.0, tier)
        for tier, wanted in ((Tier.UNAVAILABLE_ITEM, True), (Tier.UNKNOWN_ITEM, False))
        for item_id, found in zip(left, known, strict=True)
        if found is wanted
    ]
    return replace(answer, items=(*answer.items, *flagged))


def _item(
    ranking: Ranking, row: int, item_id: str, label: str | None, probability: float
) -> RankedItem:
    candidates = ranking.scored.candidates
    ranks = candidates.source_ranks[row]
    brought = {name for name, rank in zip(candidates.source_names, ranks, strict=True) if rank >= 0}
    return RankedItem(
        item_id=item_id,
        score=float(ranking.score[row]),
        tier=_tier(ranking, row),
        cross_encoder_score=None if np.isnan(probability) else probability,
        sources=tuple(sorted(brought | ({label} if label else set()))),
    )


def _tier(ranking: Ranking, row: int) -> Tier:
    if not ranking.rankers:
        return ranking.without_ranker
    return Tier.RANKER_WITHOUT_CROSS_ENCODER if ranking.first_stage[row] else Tier.RANKER
