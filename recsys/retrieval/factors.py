"""Item factors: a truncated SVD of who bought what, which relates items that share no shopper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.interactions import Candidates
from recsys.retrieval.queries import Seeds

FACTORS: Final = 64
OVERSAMPLING: Final = 16
ROUNDS: Final = 5
CHUNK: Final = 100_000
SMALLEST_NORM: Final = 1e-9


@dataclass(frozen=True)
class ItemFactors:
    """Right singular vectors of the 0/1 matrix shoppers x items (PureSVD, Cremonesi et al. 2010).

    A shopper is the direction of the weighted sum of their items' vectors, an item's score its
    inner product with that. No shopper has a vector of their own: new ones are scored like old.

    Attributes:
        vectors: float32 (items, factors); zeros for an item that nobody took.
    """

    vectors: NDArray[np.float32]

    @classmethod
    def build(cls, counts: sparse.csr_matrix[np.float32], seed: int) -> Self:
        """Factorise by block power iteration (Halko et al. 2011); at most 64 factors.

        Args:
            counts: float32 (shoppers, items); only whether an entry is there matters.
            seed: of the block that the iteration starts from.
        """
        if counts.nnz == 0:
            return cls(np.zeros((counts.shape[1], 1), np.float32))
        matrix = counts.sign()
        width = min(FACTORS + OVERSAMPLING, *counts.shape)
        block = np.random.default_rng(seed).standard_normal((counts.shape[1], width))
        for _ in range(ROUNDS):
            block, _ = np.linalg.qr(np.asarray(matrix.T @ (matrix @ block)))
        _, _, right = np.linalg.svd(np.asarray(matrix @ block), full_matrices=False)
        vectors = (block @ right.T)[:, :FACTORS]
        vectors[np.bincount(counts.indices, minlength=counts.shape[1]) == 0] = 0
        return cls(np.ascontiguousarray(vectors, np.float32))

    def scores(self, seeds: Seeds, candidates: Candidates) -> NDArray[np.float32]:
        """float32 (m,): each candidate's score for its shopper; 0 for a shopper without items."""
        shoppers, request = self._shoppers(seeds), candidates.request
        found = np.empty(len(request), np.float32)
        for first in range(0, len(request), CHUNK):
            part = slice(first, first + CHUNK)
            items = self.vectors[candidates.item[part]]
            np.einsum("ij,ij->i", shoppers[request[part]], items, out=found[part])
        return found

    def _shoppers(self, seeds: Seeds) -> NDArray[np.float32]:
        """float32 (n, factors): unit vectors; zeros for a shopper without items."""
        shape = (seeds.lists.count, len(self.vectors))
        columns = (seeds.weight, seeds.lists.item, seeds.lists.offsets)
        sums = sparse.csr_matrix(columns, shape=shape) @ self.vectors.astype(np.float64)
        norm = np.linalg.norm(sums, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (sums / np.maximum(norm, SMALLEST_NORM)).astype(np.float32)
        return unit
