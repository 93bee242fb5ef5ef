"""Texts as points with few coordinates: items and past queries, by meaning or by words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from recsys.retrieval.words import WordCounts, WordModel

DIMENSIONS: Final = 128
SMALLEST_NORM: Final = 1e-9

Floats = NDArray[np.float32]
Texts = NDArray[np.floating[Any]] | sparse.csr_matrix[np.float64]


@dataclass(frozen=True)
class Projection:
    """Where a text lies, of which e figures are known: fitted to some texts, then the same for all.

    Attributes:
        axes: float32 (e, d).
        middle: float32 (d,), of the items' coordinates.
        size: root of the items' mean square distance from it.
    """

    axes: Floats
    middle: Floats
    size: float

    @classmethod
    def fit(cls, items: Texts, axes: NDArray[np.floating[Any]]) -> Self:
        """Find middle and size of the items, (n, e), along the axes, (e, d)."""
        single = np.ascontiguousarray(axes, np.float32)
        points = _along(items, single)
        middle = points.mean(axis=0)
        size = np.sqrt(((points - middle) ** 2).sum(axis=1).mean())
        return cls(single, middle.astype(np.float32), max(float(size), SMALLEST_NORM))

    def of_items(self, items: Texts) -> NDArray[np.float16]:
        """float16 (n, d) of figures (n, e)."""
        points: NDArray[np.float64] = (_along(items, self.axes) - self.middle) / self.size
        return points.astype(np.float16)

    def of_queries(self, queries: Texts) -> NDArray[np.float16]:
        """float16 (n, d) of figures (n, e): rows of length 1, or 0 where nothing is known."""
        points = _along(queries, self.axes)
        norm = np.linalg.norm(points, axis=1, keepdims=True)
        unit: NDArray[np.float64] = points / np.maximum(norm, SMALLEST_NORM)
        return unit.astype(np.float16)


def _along(texts: Texts, axes: Floats) -> NDArray[np.float64]:
    """Coordinates (n, d); in double precision, so that a text's don't depend on the others'."""
    return np.asarray(texts.astype(np.float64) @ axes.astype(np.float64))


@dataclass(frozen=True)
class TextSpace:
    """Coordinates of texts.

    Items are centred and have a mean square length of 1; queries have length 1, or 0 where nothing
    of them is known.

    Attributes:
        items: float16 (items, d).
        queries: float16 (queries, d), in the order of the log's queries.
        projection: where other texts lie; None if that was not kept.
    """

    items: NDArray[np.float16]
    queries: NDArray[np.float16]
    projection: Projection | None = None

    @classmethod
    def of_meanings(cls, vectors: Floats, queries: Floats) -> Self:
        """The main directions of encoder vectors (principal components).

        Args:
            vectors: float32 (items, e).
            queries: float32 (queries, e), of the same encoder.
        """
        around = vectors - vectors.mean(axis=0, dtype=np.float64)
        _, axes = np.linalg.eigh(around.T @ around)
        return cls.projected(
            Projection.fit(vectors, axes[:, ::-1][:, :DIMENSIONS]), vectors, queries
        )

    @classmethod
    def of_words(cls, texts: Sequence[str], queries: Sequence[str], seed: int) -> Self:
        """The main directions of TF-IDF vectors (latent semantic analysis, Deerwester 1990).

        Args:
            texts: of the items, in the order of rows; words of one text only say nothing here.
            queries: cleaned.
            seed: of the block that the decomposition starts from.
        """
        counts = WordCounts.of(texts)
        model = WordModel.fit(counts)
        items = model.frequent_vectors(counts)
        asked = model.frequent_vectors(WordCounts.of(queries))
        width = min(DIMENSIONS, *(size - 1 for size in items.shape))
        axes = np.zeros((items.shape[1], 1))
        if width >= 1:
            axes = TruncatedSVD(width, random_state=seed).fit(items).components_.T
        return cls.projected(Projection.fit(items, axes), items, asked)

    @classmethod
    def projected(cls, projection: Projection, items: Texts, queries: Texts) -> Self:
        """The space that a projection makes of items, (n, e), and queries, (m, e)."""
        return cls(projection.of_items(items), projection.of_queries(queries), projection)

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

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """For `from_arrays`, under names that begin with `prefix`."""
        arrays: dict[str, NDArray[np.generic]] = {
            f"{prefix}items": self.items,
            f"{prefix}queries": self.queries,
        }
        if self.projection is not None:
            arrays[f"{prefix}axes"] = self.projection.axes
            arrays[f"{prefix}middle"] = self.projection.middle
            arrays[f"{prefix}size"] = np.array([self.projection.size])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> Self:
        """Read what `arrays` gave."""
        items, queries = (
            arrays[prefix + name].astype(np.float16, copy=False) for name in ("items", "queries")
        )
        if f"{prefix}axes" not in arrays:
            return cls(items, queries)
        axes, middle = (arrays[prefix + name].astype(np.float32) for name in ("axes", "middle"))
        return cls(items, queries, Projection(axes, middle, float(arrays[f"{prefix}size"][0])))
