"""Items near by the very words of their texts, beside the meaning that an encoder sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.retrieval.co_occurrence import nearest_columns
from recsys.retrieval.neighbours import ItemNeighbours

WORD: Final = r"[^\W\d_]{2,}"


def lexical_neighbours(texts: Sequence[str], limit: int) -> ItemNeighbours:
    """The nearest items of each item by the cosine of TF-IDF vectors (1 + ln tf, smoothed idf).

    Words are runs of two letters or more; a text without any has no neighbours.

    Args:
        texts: cleaned texts in the order of item rows.
        limit: neighbours kept for an item.
    """
    try:
        vectors = TfidfVectorizer(token_pattern=WORD, sublinear_tf=True).fit_transform(texts)
    except ValueError:  # no text has a word
        return ItemNeighbours.empty(len(texts))
    return nearest_columns(vectors.T.tocsr(), limit)
