"""The candidate sources of one point in time, set up as configured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.config import RetrievalConfig
from recsys.interactions import Candidates, InteractionLog
from recsys.retrieval import (
    CandidateSource,
    CoOccurrence,
    CoOccurrenceSource,
    ItemNeighbours,
    OwnItems,
    Popular,
    RetrievalQueries,
    TextNeighbours,
    VectorIndex,
    merge,
)


@dataclass(frozen=True)
class Retriever:
    """All sources with the number of items each may bring.

    Attributes:
        sources: in the order of the columns of the candidates' provenance.
        limits: most items of each source.
        co_occurrence: the tables behind the co-occurrence source, for features.
    """

    sources: tuple[CandidateSource, ...]
    limits: tuple[int, ...]
    co_occurrence: CoOccurrence

    @classmethod
    def build(
        cls,
        log: InteractionLog,
        co_occurrence: CoOccurrence,
        text: tuple[VectorIndex, ItemNeighbours],
        config: RetrievalConfig,
    ) -> Self:
        """Sources over a log that holds only what is known at the time of the requests."""
        index, neighbours = text
        return cls(
            sources=(
                TextNeighbours(index, neighbours, config.recent_items),
                CoOccurrenceSource(co_occurrence, config.recent_items),
                Popular(log, config.popular_days),
                OwnItems(),
            ),
            limits=(
                config.text_neighbours,
                config.co_occurrence,
                config.popular,
                config.own_items,
            ),
            co_occurrence=co_occurrence,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources."""
        return tuple(source.name for source in self.sources)

    def retrieve(
        self, queries: RetrievalQueries, allowed: NDArray[np.bool_] | None = None
    ) -> Candidates:
        """The union of all sources' lists, with provenance.

        Args:
            queries: n requests.
            allowed: bool (items,), items that may be candidates at all; None allows every item.
        """
        found = {
            source.name: source.retrieve(queries, limit)
            for source, limit in zip(self.sources, self.limits, strict=True)
        }
        candidates = merge(found)
        return candidates if allowed is None else candidates.where(allowed[candidates.item])
