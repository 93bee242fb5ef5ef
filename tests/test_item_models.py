"""Regressions from item to item, similar shoppers and lexical neighbours, each spelt out anew."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from random_shop import dense, random_log, random_queries
from scipy import sparse
from sklearn.linear_model import Ridge

from recsys.interactions import DAY_US, EventKind, InteractionLog
from recsys.retrieval import (
    Popular,
    SimilarShoppers,
    lexical_neighbours,
    merge,
)
from recsys.retrieval.item_regression import ease, next_items

ITEMS = 30
TEXTS = ["red retro jumbo bag", "red retro charlotte bag", "wooden clock", "", "12 34 5"]


def last_purchase(log: InteractionLog, until: int) -> NDArray[np.float64]:
    """(users, items): time of the last purchase before `until`, NaN where there is none."""
    last = np.full((len(log.user_ids), len(log.item_ids)), np.nan)
    for user, item, time, kind in zip(log.user, log.item, log.time, log.kind, strict=True):
        if kind == EventKind.PURCHASE and time < until:
            last[user, item] = time
    return last


def test_ease_regresses_each_item_on_all_others() -> None:
    taken = (np.random.default_rng(1).random((400, 12)) < 0.3).astype(np.float64)
    taken[:, 1] = np.where(np.random.default_rng(2).random(400) < 0.9, taken[:, 0], taken[:, 1])
    weights = dense(ease(sparse.csr_matrix(taken.astype(np.float32)), limit=12))
    for item in range(12):
        others = np.delete(np.arange(12), item)
        fitted = Ridge(alpha=100.0, fit_intercept=False).fit(taken[:, others], taken[:, item])
        np.testing.assert_allclose(
            weights[others, item], np.maximum(fitted.coef_, 0), rtol=1e-5, atol=1e-8
        )


def test_next_items_regress_new_purchases_on_the_faded_history() -> None:
    log = random_log(3, users=25, items=ITEMS, events=900)
    bought = log.time[log.kind == EventKind.PURCHASE]
    end, length = int(bought.max()) + 1, int((bought.max() + 1 - bought.min()) / 8)
    inputs, targets = [], []
    for place in range(7):
        start = end - (place + 1) * length
        before = last_purchase(log, start)
        within = last_purchase(log, start + length)
        fresh = np.isnan(before) & (within >= start)
        weight = np.nan_to_num(np.exp2(-(start - before) / DAY_US / 60))
        active = fresh.any(axis=1)
        inputs.append(np.sqrt(0.8**place) * weight[active])
        targets.append(np.sqrt(0.8**place) * fresh[active])
    fitted = Ridge(alpha=30.0, fit_intercept=False).fit(np.vstack(inputs), np.vstack(targets))
    expected = np.maximum(fitted.coef_.T, 0)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(dense(next_items(log, ITEMS)), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("limit", [1, 5])
def test_only_the_largest_weights_are_kept(limit: int) -> None:
    log = random_log(4)
    full, cut = dense(next_items(log, ITEMS)), dense(next_items(log, limit))
    assert ((cut > 0).sum(axis=1) == np.minimum((full > 0).sum(axis=1), limit)).all()
    np.testing.assert_allclose(cut.max(axis=1), full.max(axis=1))


def test_only_the_items_taken_most_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.retrieval.item_regression.MOST_ITEMS", 4)
    log = random_log(5)
    takers = (~np.isnan(last_purchase(log, 2**62))).sum(axis=0)
    most = set(np.argsort(-takers, kind="stable")[:4].tolist())
    table = next_items(log, ITEMS)
    assert len(table.indices) > 0
    assert set(table.indices.tolist()) | set(np.flatnonzero(np.diff(table.indptr))) <= most


def test_without_events_there_are_no_neighbours() -> None:
    empty = random_log(6).before(0)
    assert len(next_items(empty, 5).indices) == 0
    assert len(ease(sparse.csr_matrix(np.zeros((0, ITEMS), np.float32)), 5).indices) == 0
    queries = random_queries(random_log(6), 1, 4)
    found = SimilarShoppers.build(empty).retrieve(queries, 5)
    assert (found.count, len(found.item)) == (4, 0)


def test_similar_shoppers_add_up_what_they_bought_lately() -> None:
    log = random_log(7, users=20)
    queries = random_queries(log, 2, 12)
    last, now = last_purchase(log, 2**62), log.time.max()
    rarity = np.log(20 / np.maximum((~np.isnan(last)).sum(axis=0), 1))
    tastes = np.nan_to_num(np.exp2(-(now - last) / DAY_US / 90)) * rarity
    tastes /= np.linalg.norm(tastes, axis=1, keepdims=True)
    bought = np.nan_to_num(np.exp2(-(now - last) / DAY_US / 30))
    candidates = merge({"popular": Popular(log, 30).retrieve(queries, ITEMS)})
    found = SimilarShoppers.build(log).scores(queries, candidates)
    for i in range(queries.count):
        own = np.zeros(ITEMS)
        seen = queries.visible.rows(i, i + 1)
        for item, time in zip(seen.item, seen.time, strict=True):
            own[item] = np.exp2(-(queries.as_of[i] - time) / DAY_US / 90) * rarity[item]
        cosine = tastes @ own / max(np.linalg.norm(own), 1e-9)
        rows = slice(candidates.offsets[i], candidates.offsets[i + 1])
        expected = (cosine @ bought)[candidates.item[rows]]
        np.testing.assert_allclose(found[rows], expected, rtol=1e-4, atol=1e-6)


def test_only_the_most_similar_shoppers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(8, users=20)
    queries = random_queries(log, 3, 6)
    candidates = merge({"popular": Popular(log, 30).retrieve(queries, ITEMS)})
    everybody = SimilarShoppers.build(log).scores(queries, candidates)
    monkeypatch.setattr("recsys.retrieval.similar_shoppers.SIMILAR", 3)
    nearest = SimilarShoppers.build(log).scores(queries, candidates)
    assert (nearest <= everybody + 1e-6).all()
    assert nearest.sum() < everybody.sum()


def test_lexical_neighbours_share_rare_words() -> None:
    table = lexical_neighbours(TEXTS, 3).table
    assert table.of(0)[0].tolist() == [1]
    assert table.of(1)[0].tolist() == [0]
    np.testing.assert_allclose(table.of(0)[1], table.of(1)[1])
    assert [len(table.of(item)[0]) for item in (2, 3, 4)] == [0, 0, 0]


@pytest.mark.parametrize("texts", [[], ["", "1 2 3"]])
def test_texts_without_words_have_no_neighbours(texts: list[str]) -> None:
    assert lexical_neighbours(texts, 3).table.items == len(texts)
