"""Texts as points with few coordinates: items and past queries, by meaning or by words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.retrieval.lexical import WORD

DIMENSIONS: Final = 128
RAREST_WORD: Final = 2
SMALLEST_NORM: Final = 1e-9

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TextSpace:
    """Coordinates of texts.

    Items are centred and have a mean square length of 1; queries have length 1, or 0 where nothing
    of them is known.

    Attributes:
        items: float16 (items, d).
        queries: float16 (queries, d), in the order of the log's queries.
    """

    items: NDArray[np.float16]
    queries: NDArray[np.float16]

    @classmethod
    def of_meanings(cls, vectors: Floats, queries: Floats) -> Self:
        """The main directions of encoder vectors (principal components).

        Args:
            vectors: float32 (items, e).
            queries: float32 (queries, e), of the same encoder.
        """
        middle = vectors.mean(axis=0, dtype=np.float64)
        around = vectors - middle
        _, axes = np.linalg.eigh(around.T @ around)
        axes = axes[:, ::-1][:, :DIMENSIONS]
        return cls._scaled(around @ axes, queries @ axes)

    @classmethod
    def of_words(cls, texts: Sequence[str], queries: Sequence[str], seed: int) -> Self:
        """The main directions of TF-IDF vectors (latent semantic analysis, Deerwester 1990).

        Args:
            texts: of the items, in the order of rows; words of one text only say nothing here.
            queries: cleaned.
            seed: of the block that the decomposition starts from.
        """
        nowhere = cls._scaled(np.zeros((len(texts), 1)), np.zeros((len(queries), 1)))
        reader = TfidfVectorizer(token_pattern=WORD, sublinear_tf=True, min_df=RAREST_WORD)
        try:
            counts = reader.fit_transform(texts)
        except ValueError:  # no word stands in two texts
            return nowhere
        asked = reader.transform(queries) if queries else sparse.csr_matrix((0, counts.shape[1]))
        width = min(DIMENSIONS, *(size - 1 for size in counts.shape))
        if width < 1:
            return nowhere
        decomposition = TruncatedSVD(width, random_state=seed)
        points = decomposition.fit_transform(counts)
        return cls._scaled(points - points.mean(axis=0), asked @ decomposition.components_.T)

    @classmethod
    def _scaled(cls, items: NDArray[np.floating], queries: NDArray[np.floating]) -> Self:
        size = np.sqrt((items.astype(np.float64) ** 2).sum(axis=1).mean())
        norm = np.linalg.norm(queries, axis=1, keepdims=True)
        return cls(
            (items / max(float(size), SMALLEST_NORM)).astype(np.float16),
            (queries / np.maximum(norm, SMALLEST_NORM)).astype(np.float16),
        )

    @property
    def dimensions(self) -> int:
        """Number of coordinates."""
        return int(self.items.shape[1])

    @cached_property
    def _all(self) -> Floats:
        return np.concatenate([self.items, self.queries]).astype(np.float32)

    @property
    def item_points(self) -> Floats:
        """float32 (items, d)."""
        return self._all[: len(self.items)]

    def of(self, rows: NDArray[np.int64]) -> Floats:
        """float32 (n, d): item rows; from the catalogue's size on, queries."""
        return self._all[rows]

    def arrays(self, prefix: str) -> dict[str, NDArray[np.float16]]:
        """For `from_arrays`, under names that begin with `prefix`."""
        return {f"{prefix}items": self.items, f"{prefix}queries": self.queries}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> Self:
        """Read what `arrays` gave."""
        return cls(
            *(arrays[prefix + name].astype(np.float16, copy=False) for name in ("items", "queries"))
        )
