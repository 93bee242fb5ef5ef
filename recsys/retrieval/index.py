"""The FAISS index over the catalogue's text vectors."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.retrieval.deep_neighbours import CarriedRows

INDEX_FILE: Final = "index.faiss"
ABOUT_FILE: Final = "index.json"
RECALL_WANTED: Final = 0.99
"""Of sampled items; of queries from outside, which lie further off, a hundredth less is found."""
RECALL_DEPTH: Final = 100
RECALL_SAMPLE: Final = 200
LISTS_PER_ROOT: Final = 4
MOST_LISTS_RATIO: Final = 1.5
TRAINING_POINTS_PER_LIST: Final = 64
TRAINING_ROUNDS: Final = 10
ALONE: Final = 1
"""FAISS rounds another way when it scores many queries at once, so a search goes one by one."""
BLOCK_QUERIES: Final = 1_024
MATRIX: Final = 2
_LIMITS: Final = Lock()


@dataclass(frozen=True)
class VectorIndex:
    """Nearest catalogue items by inner product: exact, or inverted lists for a large catalogue.

    Attributes:
        item_ids: id of each row of the index, in catalogue order.
        recall: share of the exact 100 nearest that a search finds, over 200 sampled items; 1 when
            the index is exact.
    """

    item_ids: tuple[str, ...]
    recall: float
    _index: Any

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    @property
    def kind(self) -> str:
        """`flat` (exact) or `ivf` (inverted lists)."""
        return "ivf" if isinstance(self._index, faiss.IndexIVF) else "flat"

    @property
    def description(self) -> str:
        """Kind and settings in words."""
        if self.kind == "flat":
            return "exact"
        return f"{self._index.nlist:,} inverted lists, {self._index.nprobe} probed"

    @classmethod
    def build(
        cls,
        item_ids: Sequence[str],
        vectors: NDArray[np.float32],
        flat_limit: int,
        seed: int = 0,
    ) -> Self:
        """Index the catalogue; the same input, seed and thread count give the same index.

        Args:
            item_ids: n ids in catalogue order.
            vectors: float32 (n, d), unit rows.
            flat_limit: up to this many rows the index is exact. Above it there are about 4 sqrt(n)
                lists, and the fewest are probed that find 98 % of the exact nearest.
            seed: of the lists' k-means and of the sample that recall is measured on.

        Raises:
            ModelError: rows and ids differ in number, or a value is not finite.
        """
        _check(item_ids, vectors)
        vectors = np.ascontiguousarray(vectors, np.float32)
        if len(vectors) <= flat_limit:
            flat = faiss.IndexFlatIP(vectors.shape[1])
            flat.add(vectors)
            return cls(tuple(item_ids), 1.0, flat)
        index = _inverted_lists(vectors, seed)
        return cls(tuple(item_ids), _choose_probes(index, vectors, seed), index)

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows nearest to each query; a query's answer does not depend on the others.

        Args:
            queries: float32 (n, d).
            k: rows wanted; more than the index holds is cut to what it holds.

        Returns:
            rows int64 (n, k) and scores float32 (n, k), best first, ties by row. Where a search of
            inverted lists finds fewer than `k`, the rest is padded: row -1, score -inf.

        Raises:
            ModelError: `k` below 1, another dimension, or a query with a value that is not finite.
        """
        return self._search(queries, k, ALONE)

    def search_many(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `search`, faster for many queries; scores may differ from it in their last bits."""
        return self._search(queries, k, BLOCK_QUERIES)

    def updated(
        self,
        item_ids: Sequence[str],
        vectors: NDArray[np.float32],
        rows: CarriedRows,
        flat_limit: int,
        seed: int | None = 0,
    ) -> VectorIndex:
        """An index over another catalogue: inverted lists keep their centroids while they fit.

        They fit as long as a new index would not have more lists by half, or fewer.

        Args:
            item_ids: n ids in catalogue order.
            vectors: float32 (n, d), unit rows.
            rows: which of them are what they were in this index; only the others are looked at.
            flat_limit: as in `build`.
            seed: as in `build`; None to probe as many lists as before and take the recall for what
                it was, which is quicker and right for a few rows.

        Raises:
            ModelError: as in `build`, or the vectors are of another dimension.
        """
        _check_sizes(item_ids, vectors)
        _check_finite(vectors[rows.new], "vector of new item")
        if vectors.shape[1] != self.dimension:
            raise ModelError(
                f"vectors of {vectors.shape[1]} dimensions can't replace those of the index, which "
                f"have {self.dimension}"
            )
        wanted = _list_count(len(vectors))
        lists = self._index.nlist if self.kind == "ivf" and len(vectors) > flat_limit else 0
        if not wanted / MOST_LISTS_RATIO <= lists <= wanted * MOST_LISTS_RATIO:
            return self.build(item_ids, vectors, flat_limit, seed or 0)
        vectors = np.ascontiguousarray(vectors, np.float32)
        index = _carried_lists(self._index, vectors, rows)
        index.nprobe, recall = self._index.nprobe, self.recall
        if seed is not None:
            recall = _choose_probes(index, vectors, seed, index.nprobe)
        return VectorIndex(tuple(item_ids), recall, index)

    def save(self, folder: Path) -> None:
        """Write `index.faiss` and, beside it, ids and measured recall in `index.json`."""
        faiss.write_index(self._index, str(folder / INDEX_FILE))
        about = {"item_ids": self.item_ids, "recall": self.recall, "dimension": self.dimension}
        (folder / ABOUT_FILE).write_text(json.dumps(about), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: a file is missing, truncated or not an index, or the two disagree.
        """
        index = _read_index(folder / INDEX_FILE)
        try:
            about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
            item_ids, recall = tuple(about["item_ids"]), float(about["recall"])
            dimension = int(about["dimension"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"can't read {folder / ABOUT_FILE}: {error}") from error
        if (index.ntotal, index.d) != (len(item_ids), dimension):
            raise ModelError(
                f"{folder / INDEX_FILE} holds {index.ntotal} vectors of dimension {index.d}, but "
                f"{ABOUT_FILE} names {len(item_ids)} items of dimension {dimension}; index again"
            )
        return cls(item_ids, recall, index)

    def _search(
        self, queries: NDArray[np.float32], k: int, block: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if k < 1:
            raise ModelError(f"k must be at least 1, found {k}")
        if queries.shape != (len(queries), self.dimension):
            raise ModelError(
                f"queries of shape {queries.shape}, but the index has dimension {self.dimension}"
            )
        _check_finite(queries, "query")
        width = min(k, len(self.item_ids))
        rows = np.empty((len(queries), width), np.int64)
        scores = np.empty((len(queries), width), np.float32)
        for first in range(0, len(queries) if width else 0, block):
            part = np.ascontiguousarray(queries[first : first + block], np.float32)
            found = self._index.search(part, width)
            scores[first : first + block], rows[first : first + block] = found
        scores[rows < 0] = -np.inf
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)


def _check(item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
    _check_sizes(item_ids, vectors)
    _check_finite(vectors, "vector of item")


def _check_sizes(item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
    if vectors.ndim != MATRIX or len(vectors) != len(item_ids):
        raise ModelError(
            f"an index needs one vector for each item; "
            f"found {len(item_ids)} items and vectors of shape {vectors.shape}"
        )


def _check_finite(vectors: NDArray[np.float32], what: str) -> None:
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise ModelError(
            f"{what} in row {broken[0]} has a value that is not finite "
            f"({len(broken)} of {len(vectors)} rows); FAISS would silently drop it"
        )


def _inverted_lists(vectors: NDArray[np.float32], seed: int) -> Any:
    items, dimension = vectors.shape
    lists = _list_count(items)
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = seed
    index.cp.niter = TRAINING_ROUNDS
    index.cp.max_points_per_centroid = TRAINING_POINTS_PER_LIST
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    return index


def _carried_lists(old: Any, vectors: NDArray[np.float32], rows: CarriedRows) -> Any:
    """Inverted lists around the same centroids: carried vectors stay where they are.

    As if the vectors had been added one after the other: within a list they are in order of rows.
    """
    lists, dimension = old.nlist, old.d
    quantizer = faiss.clone_index(old.quantizer)
    index: Any = faiss.IndexIVFFlat(quantizer, dimension, lists, faiss.METRIC_INNER_PRODUCT)
    near = quantizer.search(vectors[rows.new], 1)[1].ravel() if len(rows.new) else rows.new
    order = np.argsort(near, kind="stable")
    bounds = np.searchsorted(near[order], np.arange(lists + 1))
    for one, (first, last) in enumerate(itertools.pairwise(bounds.tolist())):
        size = old.invlists.list_size(one)
        ids = np.zeros(0, np.int64)
        if size:
            ids = rows.place[faiss.rev_swig_ptr(old.invlists.get_ids(one), size)]
        ids = np.sort(np.concatenate([ids[ids >= 0], rows.new[order[first:last]]]))
        codes = vectors[ids].view(np.uint8)
        if len(ids):
            index.invlists.add_entries(one, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    index.ntotal = len(vectors)
    return index


def _list_count(items: int) -> int:
    return max(1, min(round(LISTS_PER_ROOT * math.sqrt(items)), items // 2))


def _choose_probes(index: Any, vectors: NDArray[np.float32], seed: int, likely: int = 1) -> float:
    """Set the fewest probed lists that reach the wanted recall; return the recall measured.

    More lists find as much or more, so there is one such number, and it is near `likely` when
    little has changed since that was found.
    """
    rng = np.random.default_rng(seed)
    sample = vectors[rng.permutation(len(vectors))[:RECALL_SAMPLE]]
    depth = min(RECALL_DEPTH, len(vectors))
    exact = faiss.knn(sample, vectors, depth, faiss.METRIC_INNER_PRODUCT)[1]

    def recall(probes: int) -> float:
        index.nprobe = probes
        found = index.search(sample, depth)[1]
        return float(np.mean([np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)]))

    too_few, enough, step = 0, min(likely, index.nlist), 1
    if recall(enough) >= RECALL_WANTED:
        while enough > step and recall(enough - step) >= RECALL_WANTED:
            enough, step = enough - step, 2 * step
        too_few = max(enough - step, 0)
    else:
        while enough < index.nlist and recall(enough) < RECALL_WANTED:
            too_few, enough = enough, min(2 * enough, index.nlist)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if recall(middle) >= RECALL_WANTED else (middle, enough)
    return recall(enough)


@contextmanager
def _limited(size: int) -> Iterator[None]:
    """FAISS's limits for reading, which the whole process has in common, at `size` bytes."""
    with _LIMITS:
        bytes_before = faiss.get_deserialization_vector_byte_limit()
        loops_before = faiss.get_deserialization_loop_limit()
        try:
            faiss.set_deserialization_vector_byte_limit(size)
            faiss.set_deserialization_loop_limit(size)
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(bytes_before)
            faiss.set_deserialization_loop_limit(loops_before)


def _read_index(path: Path) -> Any:
    """Map an index from its file; no array in it may claim more bytes than the file has."""
    try:
        with _limited(path.stat().st_size):
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"can't read the index {path}: {error}") from error
    if not isinstance(index, faiss.IndexFlatIP | faiss.IndexIVFFlat):
        raise ModelError(f"{path} holds a {type(index).__name__}; expected a flat or IVF index")
    return index
