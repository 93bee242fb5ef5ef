"""Items near by the very words of their texts, beside the meaning that an encoder sees."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.retrieval.deep_neighbours import DeepNeighbours
from recsys.retrieval.nearness import WordNearness
from recsys.retrieval.words import WordCounts, WordModel


def lexical_neighbours(texts: Sequence[str], limit: int) -> DeepNeighbours:
    """The nearest items of each item by the cosine of TF-IDF vectors (1 + ln tf, smoothed idf).

    A text without any word has no neighbours.

    Args:
        texts: cleaned texts in the order of item rows.
        limit: neighbours kept for an item.
    """
    counts = WordCounts.of(texts)
    nearness = WordNearness.of(WordModel.fit(counts), counts)
    return DeepNeighbours.build(nearness, counts.texts, limit)
