"""Nearest neighbours among generated vectors: the product's index beside graphs of other libraries.

Every library works in a process of its own over the same mapped vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import faiss
import numpy as np
from pydantic import BaseModel

from serving.bench.child import run_apart
from serving.bench.machine import Machine, this_machine
from serving.bench.vector_libraries import (
    BLOCK,
    DEPTH,
    LIBRARIES,
    Floats,
    SearchCost,
    Vectors,
    is_installed,
    measure_library,
)
from training.process import usable_cores

TOPICS: Final = 64
ITEMS_A_CLUSTER: Final = 100
OWN_SHARE: Final = 0.6
"""Length of a vector's own part in proportion to that of its cluster's, and of that to its
topic's."""


class VectorSearch(BaseModel):
    """All figures of a run."""

    machine: Machine
    dimension: int
    queries: int
    build_threads: int
    costs: list[SearchCost]
    missing: list[str]
    """Libraries that are not installed."""


def measure_vector_search(
    sizes: Sequence[int],
    shape: tuple[int, int],
    seed: int,
    found: Callable[[SearchCost], None] = lambda _: None,
) -> VectorSearch:
    """Build and search every library's index at every size.

    Args:
        sizes: vectors of each catalogue.
        shape: queries and dimension.
        seed: of vectors and queries.
        found: called with each figure as soon as it is there.
    """
    libraries = [name for name in LIBRARIES if is_installed(name)]
    threads, costs = usable_cores(), []
    for size in sizes:
        with TemporaryDirectory() as folder:
            files = Vectors.below(Path(folder))
            write_vectors(files, size, shape, seed)
            for name in libraries:
                costs.append(run_apart(None, measure_library, name, files, threads).result)
                found(costs[-1])
    return VectorSearch(
        machine=this_machine(),
        dimension=shape[1],
        queries=shape[0],
        build_threads=threads,
        costs=costs,
        missing=sorted(LIBRARIES.keys() - set(libraries)),
    )


def write_vectors(files: Vectors, size: int, shape: tuple[int, int], seed: int) -> None:
    """Generate the vectors and find the exact neighbours, block by block."""
    count, dimension = shape
    rng = np.random.default_rng(seed)
    clusters = _clusters(max(TOPICS, size // ITEMS_A_CLUSTER), dimension, rng)
    catalogue = np.lib.format.open_memmap(files.catalogue, "w+", np.float32, (size, dimension))
    for first in range(0, size, BLOCK):
        part = catalogue[first : first + BLOCK]
        part[:] = _drawn(clusters, len(part), rng)
    queries = _drawn(clusters, count, rng)
    faiss.omp_set_num_threads(usable_cores())
    exact = faiss.knn(queries, catalogue, min(DEPTH, size), faiss.METRIC_INNER_PRODUCT)[1]
    np.save(files.queries, queries)
    np.save(files.exact, exact)


def _clusters(count: int, dimension: int, rng: np.random.Generator) -> Floats:
    """float32 (count, d): centres that lie around the centres of topics."""
    topics = _directions(TOPICS, dimension, rng)
    own = _directions(count, dimension, rng)
    return topics[rng.integers(TOPICS, size=count)] + OWN_SHARE * own


def _drawn(clusters: Floats, count: int, rng: np.random.Generator) -> Floats:
    """float32 (count, d), unit rows around centres; few clusters are large and many small."""
    cluster = (len(clusters) * rng.random(count) ** 2).astype(np.int64)
    own = _directions(count, clusters.shape[1], rng)
    vectors = clusters[cluster] + OWN_SHARE * own
    return _unit(vectors)


def _directions(count: int, dimension: int, rng: np.random.Generator) -> Floats:
    """float32 (count, d), unit rows."""
    return _unit(rng.standard_normal((count, dimension), np.float32))


def _unit(rows: Floats) -> Floats:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
