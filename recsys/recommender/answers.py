"""From scored candidates to pages of ranked items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.ranker import Ranker
from recsys.recommender.point_in_time import ScoredCandidates
from recsys.recommender.requests import Contribution, RankedItem, Tier


@dataclass(frozen=True)
class Page:
    """The best items of one request.

    Attributes:
        items: by descending score, ties by item id.
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


def ranked_pages(
    scored: ScoredCandidates, ranker: Ranker, item_ids: Sequence[str], sizes: Sequence[int]
) -> Iterator[Page]:
    """Rank all requests with one matrix through the ranker, then cut each to its size.

    Raises:
        ModelError: a feature that the ranker was fitted on is not there.
    """
    features = scored.features.seeing(ranker.names)
    score = ranker.predict(features.values)
    candidates = scored.candidates
    for i, size in enumerate(sizes):
        rows = np.arange(candidates.offsets[i], candidates.offsets[i + 1])
        page = rows[np.lexsort((candidates.item[rows], -score[rows]))[:size]]
        items = tuple(_item(scored, int(row), float(score[row]), item_ids) for row in page)
        yield Page(items, features.values[page])


def _item(scored: ScoredCandidates, row: int, score: float, item_ids: Sequence[str]) -> RankedItem:
    candidates = scored.candidates
    logit = float(scored.cross_encoder[row])
    ranks = candidates.source_ranks[row]
    brought = (name for name, rank in zip(candidates.source_names, ranks, strict=True) if rank >= 0)
    return RankedItem(
        item_id=item_ids[candidates.item[row]],
        score=score,
        tier=Tier.RANKER,
        cross_encoder_score=None if np.isnan(logit) else logit,
        sources=tuple(sorted(brought)),
    )
