"""Vector indexes of several libraries behind one face, each built and searched in this process.

Graphs are searched as widely as they need for the wanted recall; one query at a time, one thread.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recsys.config import RetrievalConfig
from recsys.retrieval import VectorIndex
from serving.bench.child import resident_mib

THIS_PRODUCT: Final = "this product (FAISS)"
DEPTH: Final = 100
WANTED_RECALL: Final = 0.98
GRAPH_DEGREE: Final = 16
BUILD_WIDTH: Final = 200
FIRST_WIDTH: Final = 100
LARGEST_WIDTH: Final = 3_200
WIDER: Final = 1.25
BLOCK: Final = 50_000

Floats = NDArray[np.float32]
Search = Callable[[Floats], NDArray[np.integer[Any]]]
"""Rows nearest to one query, float32 (1, d) -> (DEPTH,)."""


class SearchCost(BaseModel):
    """One library over one number of vectors."""

    library: str
    vectors: int
    settings: str
    recall: float
    """Share of the exact 100 nearest that is found, mean of the queries."""

    p50_ms: float
    p99_ms: float
    build_seconds: float
    index_mib: float
    """Anonymous memory that the built index holds, its copy of the vectors included."""


class Vectors(NamedTuple):
    """Files of one size of catalogue: vectors, queries, and the queries' exact nearest rows."""

    catalogue: Path
    queries: Path
    exact: Path

    @classmethod
    def below(cls, folder: Path) -> Vectors:
        """In a folder."""
        return cls(*(folder / f"{name}.npy" for name in ("catalogue", "queries", "exact")))


def measure_library(name: str, files: Vectors, threads: int) -> SearchCost:
    """Build one library's index with so many threads, then search it with one."""
    vectors = np.load(files.catalogue, mmap_mode="r")
    queries, exact = np.load(files.queries), np.load(files.exact)
    before = _anonymous_mib()
    started = time.perf_counter()
    index = LIBRARIES[name](vectors, threads)
    built = time.perf_counter() - started
    held = _anonymous_mib() - before
    width, recall = _wide_enough(index, queries, exact)
    taken = []
    for row in range(len(queries)):
        started = time.perf_counter()
        index.search(queries[row : row + 1])
        taken.append(1_000 * (time.perf_counter() - started))
    return SearchCost(
        library=name,
        vectors=len(vectors),
        settings=index.settings(width),
        recall=recall,
        p50_ms=float(np.median(taken)),
        p99_ms=float(np.quantile(taken, 0.99)),
        build_seconds=built,
        index_mib=held,
    )


class _Built(NamedTuple):
    """A built index.

    Attributes:
        search: by one thread.
        widen: sets how many vectors a search of a graph keeps in view; None where the index chose
            for itself.
        settings: as a text, from that width.
    """

    search: Search
    widen: Callable[[int], None] | None
    settings: Callable[[int], str]


def _wide_enough(index: _Built, queries: Floats, exact: NDArray[np.int64]) -> tuple[int, float]:
    """The narrowest search tried that has the wanted recall, and its recall."""
    width = FIRST_WIDTH
    while True:
        if index.widen is not None:
            index.widen(width)
        hits = [
            np.isin(nearest, index.search(queries[row : row + 1])).mean()
            for row, nearest in enumerate(exact)
        ]
        recall = float(np.mean(hits))
        if recall >= WANTED_RECALL or index.widen is None or width >= LARGEST_WIDTH:
            return width, recall
        width = round(width * WIDER)


def _with_faiss(vectors: Floats, threads: int) -> _Built:
    faiss.omp_set_num_threads(threads)
    ids = [str(row) for row in range(len(vectors))]
    index = VectorIndex.build(ids, vectors, RetrievalConfig().flat_index_limit)
    faiss.omp_set_num_threads(1)
    return _Built(
        search=lambda query: index.search(query, DEPTH)[0][0],
        widen=None,
        settings=lambda _: index.description,
    )


def _with_hnswlib(vectors: Floats, threads: int) -> _Built:
    import hnswlib  # noqa: PLC0415

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=GRAPH_DEGREE, ef_construction=BUILD_WIDTH, random_seed=0)
    for first in range(0, len(vectors), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(vectors)))
        index.add_items(vectors[rows[0] : rows[-1] + 1], rows, num_threads=threads)
    return _Built(
        search=lambda query: index.knn_query(query, DEPTH, num_threads=1)[0][0],
        widen=index.set_ef,
        settings=lambda width: f"M {GRAPH_DEGREE}, built with ef {BUILD_WIDTH}, ef {width}",
    )


def _with_usearch(vectors: Floats, threads: int) -> _Built:
    from usearch.index import Index  # noqa: PLC0415

    index = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=GRAPH_DEGREE,
        expansion_add=BUILD_WIDTH,
    )
    for first in range(0, len(vectors), BLOCK):
        part = np.ascontiguousarray(vectors[first : first + BLOCK])
        index.add(np.arange(first, first + len(part)), part, threads=threads)

    def widen(width: int) -> None:
        index.expansion_search = width

    return _Built(
        search=lambda query: index.search(query[0], DEPTH, threads=1).keys,
        widen=widen,
        settings=lambda width: f"M {GRAPH_DEGREE}, built with ef {BUILD_WIDTH}, ef {width}",
    )


LIBRARIES: Final[dict[str, Callable[[Floats, int], _Built]]] = {
    THIS_PRODUCT: _with_faiss,
    "hnswlib": _with_hnswlib,
    "usearch": _with_usearch,
}


def is_installed(library: str) -> bool:
    """Whether a key of `LIBRARIES` can be measured here."""
    return library == THIS_PRODUCT or find_spec(library) is not None


def _anonymous_mib() -> float:
    """Memory of the process that no file stands behind, freed blocks handed back first."""
    ctypes.CDLL(None).malloc_trim(0)
    return resident_mib("RssAnon")
