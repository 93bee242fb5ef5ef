"""Co-occurrence tables against dense computations and `implicit`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from implicit.nearest_neighbours import bm25_weight
from numpy.typing import NDArray
from random_shop import (
    dense,
    log_of,
    random_events,
    random_log,
    random_queries,
)
from scipy import sparse

from recsys.errors import ModelError
from recsys.interactions import (
    Candidates,
    EventKind,
    InteractionLog,
)
from recsys.retrieval import (
    CoOccurrence,
    ItemNeighbours,
    Popular,
    merge,
)
from recsys.retrieval.co_occurrence import bm25_weighted
from recsys.retrieval.factors import ItemFactors
from recsys.retrieval.neighbours import Combine
from recsys.retrieval.queries import recent_items

ITEMS, DIMENSION = 30, 8


def counts_of(
    log: InteractionLog, group: NDArray[np.int32], wanted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    counts = np.zeros((int(group.max()) + 1, len(log.item_ids)))
    np.add.at(counts, (group[wanted], log.item[wanted]), 1)
    return counts


def best(similarity: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """Keep the `limit` largest of each row off the diagonal, ties by column."""
    kept = np.zeros_like(similarity)
    for row, values in enumerate(similarity):
        order = [c for c in np.argsort(-values, kind="stable") if c != row and values[c] > 0]
        kept[row, order[:limit]] = values[order[:limit]]
    return kept


def test_cosine_tables_agree_with_a_dense_computation() -> None:
    log = random_log(4)
    tables = CoOccurrence.build(log, neighbours_per_item=ITEMS)
    for table, group, wanted in (
        (tables.cosine, log.user, log.kind == EventKind.PURCHASE),
        (tables.basket, log.basket, log.kind != EventKind.HIDE),
    ):
        ones = np.minimum(counts_of(log, group, wanted), 1)
        norm = np.maximum(np.linalg.norm(ones, axis=0), 1)
        np.testing.assert_allclose(
            dense(table), best(ones.T @ ones / np.outer(norm, norm), ITEMS), rtol=1e-5
        )


def test_bm25_weights_agree_with_implicit() -> None:
    log = random_log(5)
    counts = counts_of(log, log.user, log.kind == EventKind.PURCHASE)
    ours = bm25_weighted(sparse.csr_matrix(counts.astype(np.float32)))
    theirs = bm25_weight(sparse.csr_matrix(counts.T), K1=1.2, B=0.75).T
    np.testing.assert_allclose(ours.todense(), theirs.todense(), rtol=1e-5)


def test_the_table_keeps_the_best_neighbours_of_each_item() -> None:
    log = random_log(6)
    wide = CoOccurrence.build(log, ITEMS)
    narrow = CoOccurrence.build(log, 4)
    for name in ("bm25", "cosine", "basket"):
        expected = best(dense(getattr(wide, name)), 4)
        np.testing.assert_allclose(dense(getattr(narrow, name)), expected, rtol=1e-6)


def test_of_a_very_long_history_the_last_distinct_items_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = random_log(7, users=1)
    monkeypatch.setattr("recsys.retrieval.co_occurrence.ITEMS_OF_A_GROUP", 6)
    bought = np.flatnonzero(log.kind == EventKind.PURCHASE)[::-1]
    last = list(dict.fromkeys(log.item[bought].tolist()))[:6]
    table = dense(CoOccurrence.build(log, ITEMS).cosine)
    assert sorted(np.flatnonzero(table.any(axis=1))) == sorted(last)


def test_a_log_without_purchases_is_read_by_its_clicks() -> None:
    log = random_log(8)
    clicks = log_of(
        random_events(np.random.default_rng(8), 15, ITEMS, 600).filter(
            pl.col("event_type") == "click"
        ),
        ITEMS,
    )
    assert len(CoOccurrence.build(clicks, 5).bm25.indices) > 0
    assert len(log.item) > len(clicks.item)


def test_a_log_without_events_gives_empty_tables() -> None:
    empty = random_log(9).before(0)
    tables = CoOccurrence.build(empty, 5)
    assert len(tables.bm25.indices) == len(tables.basket.indices) == 0
    assert tables.cosine.items == ITEMS


def test_saved_tables_score_as_before(tmp_path: Path) -> None:
    log = random_log(10)
    tables = CoOccurrence.build(log, 6)
    tables.save(tmp_path / "tables.safetensors")
    again = CoOccurrence.load(tmp_path / "tables.safetensors")
    queries = random_queries(log, 1, 9)
    candidates = merge({"popular": Popular(log, 30).retrieve(queries, 20)})
    before, after = (t.scores(queries, candidates) for t in (tables, again))
    assert list(before) == list(after)
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])


def test_factors_span_the_leading_directions_of_who_bought_what() -> None:
    log = random_log(14, users=40)
    bought = counts_of(log, log.user, log.kind == EventKind.PURCHASE)
    found = ItemFactors.build(sparse.csr_matrix(bought.astype(np.float32)), seed=1).vectors
    _, size, right = np.linalg.svd(np.minimum(bought, 1), full_matrices=False)
    right = right[size > 1e-6]
    np.testing.assert_allclose(found @ found.T @ right.T, right.T, atol=1e-4)
    again = ItemFactors.build(sparse.csr_matrix(bought.astype(np.float32)), seed=1).vectors
    np.testing.assert_array_equal(found, again)


def test_few_factors_approach_the_exact_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.retrieval.factors.FACTORS", 3)
    monkeypatch.setattr("recsys.retrieval.factors.OVERSAMPLING", 8)
    log = random_log(14, users=60)
    bought = counts_of(log, log.user, log.kind == EventKind.PURCHASE)
    found = ItemFactors.build(sparse.csr_matrix(bought.astype(np.float32)), seed=1).vectors
    right = np.linalg.svd(np.minimum(bought, 1), full_matrices=False)[2][:3]
    assert found.shape == (ITEMS, 3)
    overlap = np.linalg.norm(right @ found) / np.sqrt(3)
    assert overlap > 0.98


def test_factor_scores_are_cosines_of_the_shoppers_direction() -> None:
    log = random_log(15)
    factors = CoOccurrence.build(log, 5).factors
    queries = random_queries(log, 4, 6)
    seeds = recent_items(queries, 10, half_life_days=30)
    candidates = merge({"popular": Popular(log, 60).retrieve(queries, 12)})
    found = factors.scores(seeds, candidates)
    for request in range(6):
        mine = seeds.lists.request == request
        shopper = seeds.weight[mine] @ factors.vectors[seeds.lists.item[mine]]
        entries = slice(*candidates.offsets[[request, request + 1]])
        expected = factors.vectors[candidates.item[entries]] @ shopper
        expected /= max(float(np.linalg.norm(shopper)), 1e-9)
        np.testing.assert_allclose(found[entries], expected, rtol=1e-4, atol=1e-6)


def test_tables_that_are_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tables.safetensors"
    CoOccurrence.build(random_log(10), 6).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match="can't read the co-occurrence"):
        CoOccurrence.load(path)
    broken = ItemNeighbours(np.array([0, 1]), np.array([7], np.int32), np.ones(1, np.float32))
    with pytest.raises(ModelError, match="inconsistent"):
        ItemNeighbours.from_arrays(broken.arrays("x."), "x.")
    with pytest.raises(ModelError, match="lack indptr, indices, weights"):
        ItemNeighbours.from_arrays({}, "x.")


@pytest.mark.parametrize("combine", ["sum", "max"])
def test_scores_and_retrieval_agree_with_a_dense_computation(
    combine: Combine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.retrieval.neighbours.CELLS_PER_CHUNK", 3 * ITEMS)
    log = random_log(11)
    table = CoOccurrence.build(log, 6).cosine
    queries = random_queries(log, 2, 10)
    seeds = recent_items(queries, 4, half_life_days=20)
    expected = np.zeros((10, ITEMS))
    for request, item, weight in zip(
        seeds.lists.request, seeds.lists.item, seeds.weight, strict=True
    ):
        more = weight * dense(table)[item]
        expected[request] = (
            expected[request] + more if combine == "sum" else np.maximum(expected[request], more)
        )
    everything = Candidates(
        np.arange(11) * ITEMS,
        np.tile(np.arange(ITEMS, dtype=np.int32), 10),
        (),
        np.zeros((10 * ITEMS, 0), np.int32),
    )
    np.testing.assert_allclose(
        table.scores(seeds, everything, combine).reshape(10, ITEMS), expected, rtol=1e-5
    )
    found = table.retrieve(seeds, 5, combine)
    for request in range(10):
        order = [
            i for i in np.argsort(-expected[request], kind="stable") if expected[request, i] > 0
        ]
        np.testing.assert_array_equal(found.rows(request, request + 1).item, order[:5])


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_the_mean_over_neighbours_agrees_with_a_loop(count: int) -> None:
    table = CoOccurrence.build(random_log(3), 8).cosine
    values = np.random.default_rng(2).random(table.items)
    found = table.mean_over(values, count)
    for item in range(table.items):
        near, weight = (part[:count] for part in table.of(item))
        expected = np.average(values[near], weights=weight) if len(near) else 0
        assert found[item] == pytest.approx(expected, rel=1e-6)
