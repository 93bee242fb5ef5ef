"""Closeness to what the shopper looks at: the nearest of it, the mean or sum; unknown without."""

from __future__ import annotations

import numpy as np
from random_shop import dense, random_log
from trained_shop import TrainedShop

from recsys.interactions import Candidates, Histories, ItemLists
from recsys.retrieval import CoOccurrence, RetrievalQueries

CONTEXT = ItemLists.of([[], [4], [7, 2, 9]])


def every_item(items: int) -> Candidates:
    """All items, for each of the three requests."""
    rows = np.tile(np.arange(items, dtype=np.int32), 3)
    return Candidates(np.arange(4) * items, rows, (), np.zeros((3 * items, 0), np.int32))


def test_co_occurrence_with_the_context_is_summed_and_its_largest_kept() -> None:
    items = 30
    log = random_log(3, items=items)
    tables = CoOccurrence.build(log, 8)
    queries = RetrievalQueries(Histories.empty(3), CONTEXT, np.zeros(3, np.int64))
    found = tables.scores(queries, every_item(items))
    basket = dense(tables.basket)
    for name, combined in (("context", np.sum), ("context_best", np.max)):
        values = found[name].reshape(3, items)
        assert values.dtype == np.float32
        assert np.isnan(values[0]).all()
        np.testing.assert_allclose(values[1], basket[4], rtol=1e-5)
        np.testing.assert_allclose(values[2], combined(basket[[7, 2, 9]], axis=0), rtol=1e-5)
    assert (found["context"][-items:] > found["context_best"][-items:]).any()


def test_text_similarity_to_the_context_is_the_best_and_the_mean_cosine(
    trained_shop: TrainedShop,
) -> None:
    texts = trained_shop.recommender._contents.texts
    items = len(texts.vectors)
    found = texts.context_similarities(CONTEXT, every_item(items))
    cosine = texts.vectors @ texts.vectors.T
    expected = {"context_best": cosine[[7, 2, 9]].max(0), "context_mean": cosine[[7, 2, 9]].mean(0)}
    assert set(found) == set(expected)
    for name, values in expected.items():
        mine = found[name].reshape(3, items)
        assert mine.dtype == np.float32
        assert np.isnan(mine[0]).all()
        np.testing.assert_allclose(mine[1], cosine[4], atol=1e-5)
        np.testing.assert_allclose(mine[2], values, atol=1e-5)
