"""Words of texts and what they weigh: TF-IDF whose weights stay as they were fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

WORD: Final = r"[^\W\d_]{2,}"
"""Runs of two letters or more."""

FREQUENT: Final = 2
NEW_WORD_TEXTS: Final = 1
SMALLEST_NORM: Final = 1e-9

Matrix = sparse.csr_matrix[np.float64]


@dataclass(frozen=True)
class WordCounts:
    """How often which word stands in which of n texts.

    Attributes:
        words: sorted, distinct; each stands in at least one text.
        counts: int32 (n, words), sorted within a row.
    """

    words: tuple[str, ...]
    counts: sparse.csr_matrix[np.int32]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Read texts; no text, or none with a word, gives no words."""
        reader = CountVectorizer(token_pattern=WORD, dtype=np.int32)
        try:
            counts = reader.fit_transform(texts).tocsr()
        except ValueError:
            return cls((), sparse.csr_matrix(np.zeros((len(texts), 0), np.int32)))
        counts.sort_indices()
        return cls(tuple(reader.get_feature_names_out()), counts)

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]], words: Sequence[str]) -> Self:
        """What `arrays` gave, and the words."""
        indptr, indices, data = (
            arrays[f"words.{name}"].astype(np.int32, copy=False)
            for name in ("indptr", "indices", "data")
        )
        shape = (len(indptr) - 1, len(words))
        return cls(tuple(words), sparse.csr_matrix((data, indices, indptr), shape=shape))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays to save; the words are apart."""
        counts = self.counts
        return {
            "words.indptr": counts.indptr.astype(np.int64),
            "words.indices": counts.indices.astype(np.int32),
            "words.data": counts.data.astype(np.int32),
        }

    @property
    def texts(self) -> int:
        """Number of texts."""
        return int(self.counts.shape[0])

    def joined(self, other: WordCounts, rows: NDArray[np.int64]) -> WordCounts:
        """The texts `rows` (n,) of this table and, counted on from its end, of the other."""
        words = sorted({*self.words, *other.words})
        place = {word: column for column, word in enumerate(words)}
        tables = [one.with_columns(place) for one in (self, other)]
        counts = sparse.vstack(tables, format="csr")[rows]
        used = np.zeros(len(words), np.bool_)
        used[counts.indices] = True
        kept = counts[:, np.flatnonzero(used)]
        kept.sort_indices()
        return WordCounts(tuple(np.array(words, object)[used]), kept)

    def with_columns(self, place: dict[str, int]) -> sparse.csr_matrix[np.int32]:
        """Int32 (n, columns): the counts of the words that have a place among the columns."""
        column = np.array([place.get(word, -1) for word in self.words], np.int64)
        known = np.flatnonzero(column >= 0)
        counts = self.counts[:, known]
        moved = column[known][counts.indices]
        found = sparse.csr_matrix(
            (counts.data, moved, counts.indptr), shape=(self.texts, len(place))
        )
        found.sort_indices()
        return found


@dataclass(frozen=True)
class WordModel:
    """What words weigh: 1 + ln of how rare they were among the texts of the fit.

    A word that was not there weighs as much as one of a single text.

    Attributes:
        words: sorted, distinct.
        documents: int32 (words,), texts that each stood in.
        texts: how many there were.
    """

    words: tuple[str, ...]
    documents: NDArray[np.int32]
    texts: int

    @classmethod
    def fit(cls, counts: WordCounts) -> Self:
        """Count in how many texts each word stands."""
        documents = np.bincount(counts.counts.indices, minlength=len(counts.words))
        return cls(counts.words, documents.astype(np.int32), counts.texts)

    @cached_property
    def frequent_words(self) -> dict[str, int]:
        """Words of at least two texts, each with its place among them."""
        frequent = np.flatnonzero(self.documents >= FREQUENT)
        return {self.words[word]: place for place, word in enumerate(frequent)}

    def vectors(self, counts: WordCounts) -> Matrix:
        """Float64 (n, words of the counts): (1 + ln tf) idf, rows of length 1, or 0 without words.

        idf = 1 + ln((1 + texts) / (1 + documents)), as in scikit-learn.
        """
        known = dict(zip(self.words, self.documents.tolist(), strict=True))
        documents = np.array([known.get(word, NEW_WORD_TEXTS) for word in counts.words], np.float64)
        return self._weighted(counts.counts, documents)

    def frequent_vectors(self, counts: WordCounts) -> Matrix:
        """Float64 (n, frequent words): as `vectors`, of frequent words alone."""
        documents = self.documents[self.documents >= FREQUENT].astype(np.float64)
        return self._weighted(counts.with_columns(self.frequent_words), documents)

    def _weighted(
        self, counts: sparse.csr_matrix[np.int32], documents: NDArray[np.float64]
    ) -> Matrix:
        idf = 1 + np.log((1 + self.texts) / (1 + documents))
        weight = (1 + np.log(counts.data)) * idf[counts.indices]
        found = sparse.csr_matrix((weight, counts.indices, counts.indptr), shape=counts.shape)
        norm = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
        found.data /= np.repeat(np.maximum(norm, SMALLEST_NORM), np.diff(found.indptr))
        return found
