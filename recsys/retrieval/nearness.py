"""How near items are to each other: by the vectors of their texts, or by their words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.retrieval.co_occurrence import strongest
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.neighbours import Entries
from recsys.retrieval.words import WordCounts, WordModel

ROUNDING: Final = 1e-5
"""By which products of matrices may differ from the same products one by one."""

LOOKED_AT: Final = 8
"""Neighbours that a search looks for beyond those asked, lest rounding decide who is the last."""

QUERIES_PER_CHUNK: Final = 1_024
MOST_ROWS_PER_CHUNK: Final = 512
CELLS_PER_CHUNK: Final = 25_000_000
PAIRS_PER_CHUNK: Final = 200_000


@dataclass(frozen=True)
class VectorNearness:
    """Inner products of unit vectors; what is nearest is asked of the index.

    Attributes:
        vectors: float32 (items, d).
        index: over them.
    """

    vectors: NDArray[np.float32]
    index: VectorIndex

    def nearest(self, rows: NDArray[np.int64], depth: int) -> Iterator[Entries]:
        """See `Nearness`; as good as the index."""
        for first in range(0, len(rows), QUERIES_PER_CHUNK):
            asked = rows[first : first + QUERIES_PER_CHUNK]
            found, _ = self.index.search_many(self.vectors[asked], depth + LOOKED_AT)
            item = np.repeat(asked, found.shape[1])
            there = found.ravel() >= 0
            yield self._weighted(item[there], found.ravel()[there])

    def reached(self, rows: NDArray[np.int64], floor: NDArray[np.float32]) -> Iterator[Entries]:
        """See `Nearness`; exact."""
        for asked in _chunks(rows, len(self.vectors)):
            near = self.vectors @ self.vectors[asked].T >= (floor - ROUNDING)[:, None]
            item, column = np.nonzero(near)
            found = self._weighted(item, asked[column])
            enough = found.weight >= floor[item]
            yield Entries(found.item[enough], found.neighbour[enough], found.weight[enough])

    def _weighted(self, item: NDArray[np.int64], neighbour: NDArray[np.int64]) -> Entries:
        """Weights one pair after the other: a pair's does not depend on the others."""
        weight = np.empty(len(item), np.float32)
        for first in range(0, len(item), PAIRS_PER_CHUNK):
            part = slice(first, first + PAIRS_PER_CHUNK)
            one, other = self.vectors[item[part]], self.vectors[neighbour[part]]
            np.einsum("ij,ij->i", one, other, out=weight[part])
        return Entries(item, neighbour, weight)


@dataclass(frozen=True)
class WordNearness:
    """Cosines of TF-IDF vectors; exact.

    Attributes:
        vectors: float32 (items, words), rows of length 1 or 0.
    """

    vectors: sparse.csr_matrix[np.float32]

    @classmethod
    def of(cls, model: WordModel, counts: WordCounts) -> Self:
        """Of the items' texts."""
        return cls(model.vectors(counts).astype(np.float32))

    @cached_property
    def _columns(self) -> sparse.csr_matrix[np.float32]:
        return self.vectors.T.tocsr()

    def nearest(self, rows: NDArray[np.int64], depth: int) -> Iterator[Entries]:
        """See `Nearness`."""
        for asked, product in self._products(rows):
            found = strongest(product, depth)
            yield Entries(asked[found.row], found.col, found.data)

    def reached(self, rows: NDArray[np.int64], floor: NDArray[np.float32]) -> Iterator[Entries]:
        """See `Nearness`."""
        for asked, product in self._products(rows):
            enough = product.data >= floor[product.indices]
            neighbour = np.repeat(asked, np.diff(product.indptr))[enough]
            yield Entries(product.indices[enough], neighbour, product.data[enough])

    def _products(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], sparse.csr_matrix[np.float32]]]:
        for asked in _chunks(rows, self.vectors.shape[0]):
            yield asked, (self.vectors[asked] @ self._columns).tocsr()


def _chunks(rows: NDArray[np.int64], items: int) -> Iterator[NDArray[np.int64]]:
    """Parts of the rows, so small that a table of a part and all items fits into memory."""
    step = min(MOST_ROWS_PER_CHUNK, max(1, CELLS_PER_CHUNK // max(items, 1)))
    for first in range(0, len(rows), step):
        yield rows[first : first + step]
