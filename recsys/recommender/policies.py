"""Other ways to rank and to show than the bundle's own: what arms of experiments differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.experiments import plackett_luce_draw, share_of
from recsys.page import LABELS, Action, Composition
from recsys.ranker import RankerTier

FIXED: Final = frozenset({LABELS[Action.PIN], LABELS[Action.BURY]})
"""Items with these labels stand where the shop's rules put them."""


class RankedBy(StrEnum):
    """What orders the candidates of `Recommender.recommend`."""

    POPULARITY = "popularity"
    """Purchases lately, of the best of all allowed items; with a query, of what was found."""

    WITHOUT_TEXT = "without_text"
    """The ranker that knows no texts, without the candidates that nothing but texts brought; with a
    query, of what was found."""

    BI_ENCODER = "bi_encoder"
    """The ranker that knows texts but not the cross-encoder."""

    FULL = "full"
    """The bundle's final ranker."""

    @property
    def tier(self) -> RankerTier | None:
        """The bundle's ranker; None where it takes none."""
        return None if self is RankedBy.POPULARITY else RankerTier(self.value)


@dataclass(frozen=True)
class Exploration:
    """Items are drawn by chance, better ones more often; see `plackett_luce_draw`.

    Drawn from is the list that would be shown without chance, continued to `pool` items. An item
    weighs `exp(score / temperature)`, where the score is the largest of these items' for the first
    of the list, the second largest for the second, and so on: its own where no rule or choice for
    diversity put it elsewhere. So the list itself is what is most likely, and comes out at a
    temperature towards 0 (items of equal scores in any order). Near-duplicates stay left out;
    pinned and buried items stay where they are, with probability 1.

    Attributes:
        temperature: in units of the score, above 0; the higher, the closer to all orders alike.
        pool: items that are drawn from; where pages are composed for diversity, at most those
            which they are chosen from.
        seed: draws with the same seed over the same items are the same.
    """

    temperature: float
    pool: int
    seed: str

    def drawn(
        self,
        composed: Composition,
        score: NDArray[np.float64],
        item_ids: Sequence[str],
        size: int,
    ) -> Composition:
        """A page of at most `size` items with the probability of each given those above it.

        Args:
            composed: k items to draw from, the page without chance first.
            score: float64 (m,), of the ranking that it was made from, finite.
            item_ids: k ids.
            size: items of the page.
        """
        labels = [composed.labels.get(place) for place in composed.places.tolist()]
        free = np.flatnonzero([label not in FIXED for label in labels])
        weight = -np.sort(-score[composed.places[free]])
        uniform = np.array([share_of(f"explore:{self.seed}", item_ids[n]) for n in free.tolist()])
        order, chance = plackett_luce_draw((weight - weight[:1]) / self.temperature, uniform)
        places, propensity = composed.places.copy(), np.ones(len(labels))
        places[free] = composed.places[free[order]]
        propensity[free] = chance
        return replace(composed, places=places[:size], propensity=propensity[:size])


@dataclass(frozen=True)
class RankingPolicy:
    """How one request is to be answered.

    Attributes:
        ranked_by: what orders the candidates.
        exploration: None leaves nothing to chance.
    """

    ranked_by: RankedBy = RankedBy.FULL
    exploration: Exploration | None = None


AS_TRAINED: Final = RankingPolicy()
