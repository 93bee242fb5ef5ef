"""The vector index: exact or nearly so, the same every time, and careful with its files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from random_shop import (
    DIMENSION,
    index_of,
    item_ids,
    nearest_by_text,
    unit_rows,
)

from recsys.errors import ModelError
from recsys.retrieval import CarriedRows, VectorIndex
from serving.bench.child import run_apart

ITEMS = 30
HEADER = struct.calcsize("<4siqqqBi")
"""Bytes of what every index file begins with; a number of lists or of values follows."""

MEMORY_MIB = 4_096


def test_a_flat_index_gives_the_exact_nearest_best_first() -> None:
    index, vectors = index_of(200, flat_limit=200)
    queries = unit_rows(np.random.default_rng(2), 40, DIMENSION)
    rows, scores = index.search(queries, 10)
    exact = queries @ vectors.T
    np.testing.assert_array_equal(rows, np.argsort(-exact, axis=1)[:, :10])
    np.testing.assert_allclose(scores, np.take_along_axis(exact, rows, 1), rtol=1e-5)
    assert (index.kind, index.recall) == ("flat", 1.0)


def test_a_query_is_answered_the_same_alone_and_among_others() -> None:
    rng = np.random.default_rng(3)
    index = VectorIndex.build(item_ids(20_000), unit_rows(rng, 20_000, 16), flat_limit=20_000)
    queries = unit_rows(rng, 20, 16)
    rows, scores = index.search(queries, 20)
    for row in range(20):
        alone_rows, alone_scores = index.search(queries[row : row + 1], 20)
        np.testing.assert_array_equal(alone_rows[0], rows[row])
        np.testing.assert_array_equal(alone_scores[0], scores[row])


def test_more_neighbours_than_items_are_cut_to_the_items() -> None:
    index, _ = index_of(5, flat_limit=10)
    rows, scores = index.search(unit_rows(np.random.default_rng(0), 2, DIMENSION), 100)
    assert rows.shape == scores.shape == (2, 5)
    assert (rows >= 0).all()


@pytest.mark.parametrize("flat_limit", [0, 10])
def test_an_index_of_nothing_finds_nothing(tmp_path: Path, flat_limit: int) -> None:
    full, _ = index_of(60, flat_limit)
    nothing = np.zeros((0, full.dimension), np.float32)
    index = full.updated([], nothing, CarriedRows.nothing(0), flat_limit)
    index.save(tmp_path)
    for one in (index, VectorIndex.build([], nothing, flat_limit), VectorIndex.load(tmp_path)):
        rows, scores = one.search(unit_rows(np.random.default_rng(0), 2, DIMENSION), 5)
        assert rows.shape == scores.shape == (2, 0)
    everything = index_of(60, flat_limit)[1]
    again = index.updated(full.item_ids, everything, CarriedRows.nothing(60), flat_limit)
    assert (again.kind, len(again.item_ids)) == (full.kind, 60)


def test_lists_that_hold_too_few_items_are_padded_with_minus_one_and_minus_infinity() -> None:
    index, _ = index_of(400, flat_limit=0)
    index._index.nprobe = 1
    rows, scores = index.search(unit_rows(np.random.default_rng(0), 3, DIMENSION), 300)
    assert (rows == -1).any()
    np.testing.assert_array_equal(rows == -1, np.isneginf(scores))
    assert all(np.flatnonzero(row == -1)[0] > row.argmax() for row in rows)


def test_inverted_lists_state_a_recall_of_at_least_98_percent_and_build_the_same_twice(
    tmp_path: Path,
) -> None:
    files = []
    for name in ("one", "two"):
        index, _ = index_of(2_000, flat_limit=1_000)
        (tmp_path / name).mkdir()
        index.save(tmp_path / name)
        files.append((tmp_path / name / "index.faiss").read_bytes())
        assert index.kind == "ivf"
        assert index.recall >= 0.98
    assert files[0] == files[1]


@pytest.mark.parametrize("flat_limit", [0, 1_000])
def test_a_saved_index_answers_as_before(tmp_path: Path, flat_limit: int) -> None:
    index, _ = index_of(300, flat_limit)
    index.save(tmp_path)
    again = VectorIndex.load(tmp_path)
    queries = unit_rows(np.random.default_rng(5), 30, DIMENSION)
    for before, after in zip(index.search(queries, 7), again.search(queries, 7), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (again.item_ids, again.recall) == (index.item_ids, index.recall)


def test_a_query_that_is_not_finite_is_refused_by_row() -> None:
    index, vectors = index_of(20, flat_limit=20)
    queries = vectors[:4].copy()
    queries[2, 3] = np.nan
    with pytest.raises(ModelError, match="query in row 2"):
        index.search(queries, 3)


def test_a_catalogue_vector_that_is_not_finite_is_refused_by_row() -> None:
    vectors = unit_rows(np.random.default_rng(0), 6, DIMENSION)
    vectors[4] = np.inf
    with pytest.raises(ModelError, match="vector of item in row 4"):
        VectorIndex.build(item_ids(6), vectors, 10)


@pytest.mark.parametrize(
    ("shape", "k", "message"),
    [((2, DIMENSION), 0, "found 0"), ((2, 5), 3, "dimension 8"), ((DIMENSION,), 3, "dimension 8")],
)
def test_a_search_that_makes_no_sense_is_refused(
    shape: tuple[int, ...], k: int, message: str
) -> None:
    index, _ = index_of(20, flat_limit=20)
    with pytest.raises(ModelError, match=message):
        index.search(np.zeros(shape, np.float32), k)


@pytest.mark.parametrize("rows", [0, 3])
def test_an_index_needs_one_vector_for_each_item(rows: int) -> None:
    with pytest.raises(ModelError, match="one vector for each item"):
        VectorIndex.build(item_ids(4), np.zeros((rows, DIMENSION), np.float32), 10)


@pytest.mark.parametrize("flat_limit", [0, 1_000])
def test_an_index_file_cut_short_is_an_error_of_ours(tmp_path: Path, flat_limit: int) -> None:
    index_of(300, flat_limit)[0].save(tmp_path)
    whole = (tmp_path / "index.faiss").read_bytes()
    for share in (0.0, 0.1, 0.5, 0.99):
        (tmp_path / "index.faiss").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ModelError, match="can't read the index"):
            VectorIndex.load(tmp_path)


def places_of_sizes(index: bytes) -> list[int]:
    """Where the file of an index says how much of something follows."""
    if index.startswith(b"IxFI"):
        return [HEADER]
    centroids = index.index(b"IxFI") + HEADER
    lists, sizes = index.index(b"ilar") + 4, index.index(b"full") + 4
    return [centroids, HEADER, lists, sizes, sizes + 8]


def claiming(folder: Path, place: int, size: int) -> Path:
    """A copy of a saved index with another size at a place of its file."""
    copy = folder / f"claims-{place}"
    copy.mkdir()
    index = bytearray((folder / "index.faiss").read_bytes())
    struct.pack_into("<q", index, place, size)
    (copy / "index.faiss").write_bytes(index)
    (copy / "index.json").write_bytes((folder / "index.json").read_bytes())
    return copy


def refused(folders: list[Path]) -> list[str]:
    """How indexes are refused; a job for a process of its own."""
    said = []
    for folder in folders:
        with pytest.raises(ModelError) as caught:
            VectorIndex.load(folder)
        said.append(str(caught.value))
    return said


@pytest.mark.parametrize("flat_limit", [0, 1_000])
def test_an_index_file_that_claims_more_than_it_holds_is_refused_and_takes_no_memory(
    tmp_path: Path, flat_limit: int
) -> None:
    index_of(300, flat_limit)[0].save(tmp_path)
    places = places_of_sizes((tmp_path / "index.faiss").read_bytes())
    claims = [claiming(tmp_path, place, 1 << 31) for place in places]
    said = run_apart(MEMORY_MIB, refused, claims).result
    assert len(said) == len(places)
    assert all("can't read the index" in one for one in said)


def test_lists_beyond_the_bytes_of_their_file_are_refused_before_they_are_read(
    tmp_path: Path,
) -> None:
    index_of(300, flat_limit=0)[0].save(tmp_path)
    _, *places = places_of_sizes((tmp_path / "index.faiss").read_bytes())
    for place in places:
        with pytest.raises(ModelError, match=r"deserialization.*limit"):
            VectorIndex.load(claiming(tmp_path, place, 1 << 20))


@pytest.mark.parametrize("flat_limit", [0, 1_000])
def test_an_index_that_counts_more_vectors_than_it_holds_is_refused(
    tmp_path: Path, flat_limit: int
) -> None:
    index_of(300, flat_limit)[0].save(tmp_path)
    (said,) = refused([claiming(tmp_path, struct.calcsize("<4si"), 1 << 40)])
    assert f"holds {1 << 40} vectors" in said if flat_limit == 0 else "can't read" in said


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """FAISS's own limits, as a program around us might have set them."""
    before = faiss_limits()
    faiss.set_deserialization_vector_byte_limit(7 << 30)
    faiss.set_deserialization_loop_limit(5 << 20)
    yield 7 << 30, 5 << 20
    faiss.set_deserialization_vector_byte_limit(before[0])
    faiss.set_deserialization_loop_limit(before[1])


def faiss_limits() -> tuple[int, int]:
    bytes_allowed: int = faiss.get_deserialization_vector_byte_limit()
    loops_allowed: int = faiss.get_deserialization_loop_limit()
    return bytes_allowed, loops_allowed


def test_limits_for_reading_end_with_the_reading(tmp_path: Path, limits: tuple[int, int]) -> None:
    index_of(300, flat_limit=0)[0].save(tmp_path)
    VectorIndex.load(tmp_path)
    assert faiss_limits() == limits
    refused([claiming(tmp_path, HEADER, 1 << 20), tmp_path / "nowhere"])
    assert faiss_limits() == limits


def test_an_index_beside_other_ids_is_refused(tmp_path: Path) -> None:
    index_of(300, 1_000)[0].save(tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(about | {"item_ids": item_ids(299)}))
    with pytest.raises(ModelError, match=r"holds 300 vectors .* names 299 items"):
        VectorIndex.load(tmp_path)


def test_the_table_of_text_neighbours_is_the_exact_nearest_without_the_item_itself() -> None:
    index, vectors = index_of(60, flat_limit=60)
    table = nearest_by_text(index, vectors, 5)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    for item in range(60):
        rows, weights = table.of(item)
        np.testing.assert_array_equal(rows, np.argsort(-similarity[item])[:5])
        np.testing.assert_allclose(weights, similarity[item, rows], rtol=1e-5)
